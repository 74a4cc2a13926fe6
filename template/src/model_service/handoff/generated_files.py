"""Files that are made from others and committed: written when asked, compared byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from model_service.files import write_atomically

SUMS = "SHA256SUMS"
"""The digests of all other files, as `sha256sum --check` reads them."""
Files = Mapping[str, bytes]
"""Every file of a folder by its path in it."""


def with_sums(files: Files) -> Files:
    """Return the files, and one with the digest of each."""
    sums = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return {**files, SUMS: "".join(sums).encode()}


def stale_files(folder: Path, files: Files) -> list[str]:
    """Return what is missing in a folder, has other bytes, or does not belong there."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    differing = (name for name in files if name in found and found[name] != files[name])
    return sorted(
        [f"{name} is missing" for name in files.keys() - found.keys()]
        + [f"{name} does not belong there" for name in found.keys() - files.keys()]
        + [f"{name} is not what would be written now" for name in differing]
    )


def write_files(folder: Path, files: Files) -> list[str]:
    """Make a folder hold these files and nothing else; return what was written or deleted."""
    changed = []
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        name = path.relative_to(folder).as_posix()
        if name not in files:
            path.unlink()
            changed.append(name)
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
            changed.append(name)
    return sorted(changed)
