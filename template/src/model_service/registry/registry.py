"""Trained versions on disk: `registry/<model>/<number>/`, written whole and never changed again."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from model_service.files import sync_folder, write_atomically
from model_service.registry.manifest import Manifest, VersionError, digests_of, write_manifest

MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
VERSION_NAME = re.compile(r"[1-9][0-9]{0,8}")
INCOMING = ".incoming-"
ARRIVING = ".arriving-"
LAST = ".last"


class Registry:
    """The versions below one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def models(self) -> list[str]:
        """Return the models that have a version."""
        if not self.path.is_dir():
            return []
        names = (path.name for path in self.path.iterdir() if path.is_dir())
        return sorted(name for name in names if MODEL_NAME.fullmatch(name) and self.versions(name))

    def versions(self, model: str) -> list[str]:
        """Return the versions of a model, the oldest first."""
        folder = self.path / model
        if not MODEL_NAME.fullmatch(model) or not folder.is_dir():
            return []
        names = (path.name for path in folder.iterdir() if path.is_dir())
        return sorted((name for name in names if VERSION_NAME.fullmatch(name)), key=int)

    def folder(self, model: str, version: str) -> Path:
        """Return the folder of a version.

        Raises:
            VersionError: there is no such version.
        """
        if version not in self.versions(model):
            known = ", ".join(self.versions(model)) or "none"
            raise VersionError(
                "not_found", f"{model} has no version {version!r}. Versions: {known}."
            )
        return self.path / model / version

    @contextmanager
    def incoming(self, model: str) -> Iterator[Path]:
        """Give a folder to write a version into; it is gone afterwards unless it was published.

        Leftovers of trainings that were killed are removed first.
        """
        above = self.path / model
        above.mkdir(parents=True, exist_ok=True)
        folder = above / f"{INCOMING}{secrets.token_hex(6)}"
        with _locked(above / ".lock"):
            _remove_leftovers(above)
            folder.mkdir()
            held = (folder / ".lock").open("w")
            fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            held.close()
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def arriving(self, model: str, name: str) -> Iterator[Path]:
        """Give the folder that a version from elsewhere is collected in. It stays if that is cut
        off, so that the next attempt under the same `name` finds what came already."""
        folder = self.path / model / f"{ARRIVING}{name}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = self.path / model / f"{ARRIVING}{name}.lock"
        with _locked(lock):
            folder.mkdir(exist_ok=True)
            yield folder
            if not folder.exists():
                lock.unlink(missing_ok=True)

    def adopt(self, arrived: Path, manifest: Manifest) -> None:
        """Make a whole version from elsewhere appear under its own number, which is used now."""
        above = arrived.parent
        with _locked(above / ".lock"):
            _make_durable(arrived)
            if int(manifest.version) > _last_number(above):
                _write_last(above, int(manifest.version))
            arrived.rename(above / manifest.version)
            sync_folder(above)

    def publish(self, incoming: Path, manifest: Manifest) -> Manifest:
        """Make `incoming` the next version of its model and return its manifest.

        The folder appears under its number with everything in it, or not at all. A number is never
        used twice, even if its version was deleted.
        """
        above = incoming.parent
        with _locked(above / ".lock"):
            number = max([_last_number(above), *map(int, self.versions(manifest.model))]) + 1
            (incoming / ".lock").unlink(missing_ok=True)
            whole = msgspec.structs.replace(
                manifest, version=str(number), files=digests_of(incoming)
            )
            write_manifest(incoming, whole)
            _make_durable(incoming)
            _write_last(above, number)
            incoming.rename(above / str(number))
            sync_folder(above)
        return whole


def _last_number(above: Path) -> int:
    last = above / LAST
    try:
        return int(last.read_bytes()) if last.is_file() else 0
    except ValueError:
        problem = f"{last} holds no number. Write the largest into it that a version ever had."
        raise VersionError("unreadable_file", problem) from None


def _write_last(above: Path, number: int) -> None:
    write_atomically(above / LAST, f"{number}\n".encode())


def _make_durable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    sync_folder(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(above: Path) -> None:
    """Remove the folders whose training no longer runs: the kernel let go of its lock."""
    for folder in above.glob(f"{INCOMING}*"):
        try:
            with (folder / ".lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            continue
        shutil.rmtree(folder, ignore_errors=True)
