"""Where a version comes from: the commit, the data, the libraries."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from model_service.registry.manifest import GitState
from model_service.repository import git

LIBRARIES = ("numpy", "pandas", "scikit-learn", "skl2onnx", "onnx", "onnxruntime", "skops")


def git_state(root: Path) -> GitState:
    """Return the commit of a folder, None where it is not in git."""
    commit = git(root, "rev-parse", "HEAD")
    changed = git(root, "status", "--porcelain", "--", ".", ":!traffic.yaml")
    return GitState((commit or "").strip() or None, bool(changed))


def fingerprint(rows: Iterable[Any]) -> str:
    """Return the SHA-256 over rows as JSON: the same data gives the same fingerprint."""
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder(order="deterministic")
    for row in rows:
        digest.update(encoder.encode(row))
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model depends on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
