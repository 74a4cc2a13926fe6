"""Which files are the template's, and which of them were edited here."""

from __future__ import annotations

from pathlib import Path

import yaml

from model_service.repository import git

ANSWERS = ".copier-answers.yml"


def lines_of(output: str | None) -> list[str]:
    """Return the paths of a `-z` listing of git."""
    return [path for path in (output or "").split("\0") if path]


def template_paths(root: Path) -> list[str]:
    """Return the paths that config/ownership.yaml gives to the template."""
    stated = yaml.safe_load((root / "config" / "ownership.yaml").read_text(encoding="utf-8"))
    return [str(path).lstrip("/") for path in stated["_template_owned"]]


def edited_template_files(root: Path) -> list[str] | None:
    """Return the template's files that differ from the last copy or update that was committed.

    None if that cannot be told: no git, no commit, or no answers file in one.
    """
    base = rendered_at(root)
    if base is None:
        return None
    changed = lines_of(git(root, "diff", "--name-only", "-z", "--no-renames", base))
    return [path for path in changed if _is_in(path, template_paths(root)) and path != ANSWERS]


def rendered_at(root: Path) -> str | None:
    """Return the commit that last brought the template in: the last that touched the answers, but
    for the address of the template, which a person writes."""
    commit = git(root, "log", "-1", "--format=%H", "-G", "^(_commit|[^_#])", "--", ANSWERS)
    return commit.strip() or None if commit is not None else None


def _is_in(path: str, owned: list[str]) -> bool:
    return any(path.startswith(place) if place.endswith("/") else path == place for place in owned)
