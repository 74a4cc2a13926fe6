"""`manifest.json`: what a version is made of, where it comes from, and how good it was."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from model_service.files import sha256_of, write_atomically
from model_service.registry.inputs import InputLayout

MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
SMALLER_IS_BETTER = frozenset({"log_loss", "mae", "rmse"})
"""Of the metrics of `drift.quality`."""
DRILL = "-drill"
"""What a version is called while it answers the drifted rows of a fire drill."""
Format = Literal["onnx", "skops", "joblib", "stub"]
"""A stub is made from a contract when it is served, and never stands in a registry."""


class VersionError(Exception):
    """Why a version may not answer. `code` is stable, `reason` is for the person who reads it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class GateOutcome(msgspec.Struct, frozen=True):
    """A gate of `train.py`, what it asked for, and what was measured; `floor` is the worst value of
    the metric that would have met it."""

    metric: str
    demand: str
    measured: float
    met: bool
    floor: float | None = None


class Parity(msgspec.Struct, frozen=True):
    """How far the served format is from the fitted estimator on held-out rows."""

    rows: int
    largest_difference: float
    tolerance: float


class ImportedFile(msgspec.Struct, frozen=True):
    """The file (or the address at another registry) that a version was imported from."""

    name: str
    sha256: str


class GitState(msgspec.Struct, frozen=True):
    """The commit that was trained from; `dirty` if files had changes that are in no commit."""

    commit: str | None
    dirty: bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of one version.

    `files` has the SHA-256 of every file of the version by its path; `classes` is the order of the
    probabilities that the model file gives.
    """

    schema: Literal[1] = 1
    model: str
    version: str
    created_at: str
    contract_version: str
    format: Format
    model_file: str
    inputs: InputLayout
    classes: tuple[str, ...]
    metrics: dict[str, float]
    baseline: dict[str, float]
    gates: tuple[GateOutcome, ...]
    parity: Parity | None
    rows: dict[str, int]
    data_sha256: str
    seed: int
    git: GitState
    libraries: dict[str, str]
    pickle: bool = False
    trusted_types: tuple[str, ...] = ()
    imported: ImportedFile | None = None
    files: dict[str, str] = {}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of `folder` and the seal over it."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    write_atomically(folder / MANIFEST, content)
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(folder / SEAL, f"{digest}  {MANIFEST}\n".encode())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a version, which must be the one that training wrote.

    Raises:
        VersionError: it is missing, was changed, or is not understood.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        seal = (folder / SEAL).read_text(encoding="ascii").split()[:1]
    except FileNotFoundError as error:
        raise VersionError("missing_file", f"{error.filename} is not there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise VersionError("unreadable_file", f"{folder} cannot be read: {error}") from None
    if seal != [hashlib.sha256(content).hexdigest()]:
        raise VersionError(
            "digest_mismatch",
            f"{folder / MANIFEST} is not what was trained: its digest is not the one in {SEAL}. "
            "Restore the version, or train anew.",
        )
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise VersionError(
            "invalid_manifest", f"{folder / MANIFEST} is not understood: {error}"
        ) from None


def stamp_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a file of a version is written, without reading any."""
    try:
        found = [(str(path), path.stat()) for path in folder.rglob("*")]
    except OSError:
        return ()
    return tuple(sorted((path, stat.st_ctime_ns, stat.st_size) for path, stat in found))


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version, the manifest and its seal left out."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, SEAL, ".lock")
    }


def check_files(folder: Path, manifest: Manifest) -> None:
    """Check that every file of a version is there and has the digest of the manifest.

    Raises:
        VersionError: a file is missing, was changed, or its path leads out of the folder.
    """
    for name, digest in manifest.files.items():
        path = inside(folder, name)
        try:
            found = sha256_of(path)
        except OSError as error:
            raise _unreadable(path, error) from None
        if found != digest:
            raise _changed(path)


def read_checked(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Return the bytes of one file of a version, whose digest was checked on these very bytes.

    Raises:
        VersionError: the manifest has no such file, or the file is not what was trained.
    """
    if name not in manifest.files:
        raise VersionError("missing_file", f"The manifest of {folder} has no {name}.")
    path = inside(folder, name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if hashlib.sha256(content).hexdigest() != manifest.files[name]:
        raise _changed(path)
    return content


def _unreadable(path: Path, error: OSError) -> VersionError:
    if isinstance(error, FileNotFoundError):
        return VersionError("missing_file", f"{path} is not there.")
    return VersionError("unreadable_file", f"{path} cannot be read: {error}")


def _changed(path: Path) -> VersionError:
    return VersionError(
        "digest_mismatch",
        f"{path} is not what was trained: its digest is not the one in the manifest. "
        "Restore the version, or train anew.",
    )


def inside(folder: Path, name: str) -> Path:
    """Return the file called `name` of a version.

    Raises:
        VersionError: the path leads out of the version's folder.
    """
    pure = PurePosixPath(name)
    path = folder / pure
    leads_out = path.is_symlink() or not path.resolve().is_relative_to(folder.resolve())
    if pure.is_absolute() or ".." in pure.parts or leads_out or not name:
        raise VersionError("invalid_manifest", f"The manifest names {name!r}, outside {folder}.")
    return path
