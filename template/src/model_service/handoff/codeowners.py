"""Who is asked to review a file, by `CODEOWNERS`: the last line that matches decides."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PLACES = ("CODEOWNERS", ".github/CODEOWNERS", ".gitlab/CODEOWNERS", "docs/CODEOWNERS")


def codeowners_of(root: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return the patterns of the repository with their owners; nothing if there is no file."""
    for place in PLACES:
        path = root / place
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            words = (line.partition("#")[0].split() for line in lines)
            return [(first, tuple(rest)) for first, *rest in filter(None, words) if first[0] != "["]
    return []


def owners_of(path: str, lines: list[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """Return the owners of one file, given by its path from the root."""
    for pattern, owners in reversed(lines):
        if _regex(pattern).fullmatch(path):
            return owners
    return ()


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    """Return the expression for a pattern: as in .gitignore, without `!` and `[ ]`."""
    anchored = "/" in pattern.rstrip("/")
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.lstrip("/").rstrip("/"))
    inside = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = "".join(inside.get(part, re.escape(part)) for part in parts)
    # A pattern that ends in one star means the files of a folder, not of the folders in it.
    below = (
        "/.*"
        if pattern.endswith("/")
        else ""
        if anchored and pattern.endswith("/*")
        else "(?:/.*)?"
    )
    return re.compile(("" if anchored else "(?:.*/)?") + body + below)
