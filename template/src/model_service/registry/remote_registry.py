"""Versions at another place: a bucket or share behind any `fsspec` URL, such as `s3://models/acme`.

A version lies there as `<model>/<number>/<digest of its manifest>/<files>`, and exists once
`<model>/<number>/manifest.sha256` names that digest. This seal is written last, and only if there
is none: of two that push the same number at once one wins, and no file of the other is ever read.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from model_service.effective_settings import masked
from model_service.files import sha256_of, write_atomically
from model_service.registry.manifest import (
    MANIFEST,
    SEAL,
    Manifest,
    check_files,
    inside,
    read_manifest,
)
from model_service.registry.registry import MODEL_NAME, VERSION_NAME, Registry
from model_service.repository import how_to_install

PART_BYTES = 4 * 1024 * 1024
DIGEST = re.compile(r"[0-9a-f]{64}")
Progress = Callable[[str, int, int], None]
"""Told the file, how many bytes of it are done, and how many it has."""
Answer = TypeVar("Answer")


class RemoteError(Exception):
    """A version could not be pushed or pulled; says why and what to do, without passwords."""

    def __init__(self, message: str) -> None:
        # Paths below an address, and what libraries say of it, may hold the whole address.
        super().__init__(masked(message))


def no_progress(_file: str, _done: int, _size: int) -> None:
    """Tell nobody."""


class RemoteRegistry:
    """The versions below one URL."""

    def __init__(self, url: str) -> None:
        """Open the place that `url` names; credentials come from where its library looks for them.

        Raises:
            RemoteError: the URL is not understood, or a library for it is not installed.
        """
        self.url = masked(url)
        try:
            import fsspec

            fresh = {"skip_instance_cache": True, "use_listings_cache": False}
            self._files, root = fsspec.core.url_to_fs(url, **fresh)
        except ImportError as error:
            raise RemoteError(
                f"{self.url}: {str(error).rstrip('.')}. What it needs: {how_to_install('remote')}, "
                "and gcsfs beside it for gs:// or adlfs for abfs://."
            ) from error
        except ValueError as error:
            raise RemoteError(f"{self.url} is no place for versions: {error}") from error
        if re.match(r"[^/@]+:[^/]*@", root):
            raise RemoteError(
                f"{self.url} holds a password that its library does not take from an address. Name "
                "it where the library looks for it, such as in the environment."
            )
        self._root = root.rstrip("/")

    def versions(self) -> list[tuple[str, str]]:
        """Return model and number of every version there that has its seal."""
        found = []
        for path in _asked(lambda: self._files.glob(f"{self._root}/*/*/{SEAL}"), self.url):
            model, number = str(path).split("/")[-3:-1]
            if MODEL_NAME.fullmatch(model) and VERSION_NAME.fullmatch(number):
                found.append((model, number))
        return sorted(found, key=lambda pair: (pair[0], int(pair[1])))

    def push(self, folder: Path, progress: Progress = no_progress) -> bool:
        """Copy a version there, and return whether it was not there before.

        What an interrupted push left there is not sent again.

        Raises:
            VersionError: the version here is not what was trained.
            RemoteError: another version has that number there, or the place cannot be reached.
        """
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        digest = sha256_of(folder / MANIFEST)
        there = self._version(manifest.model, manifest.version)
        before = self._sealed(there)
        if before not in (None, digest):
            raise self._taken(manifest, before)
        self._send(folder, manifest, f"{there}/{digest}", progress)
        if before is None and not self._seal(f"{there}/{SEAL}", digest):
            winner = self._sealed(there)
            if winner != digest:
                self._forget(f"{there}/{digest}")
                raise self._taken(manifest, winner)
        return before is None

    def pull(
        self, registry: Registry, model: str, version: str, progress: Progress = no_progress
    ) -> bool:
        """Copy a version from there into `registry`, and return whether it was not here before.

        A pull that was cut off goes on where it stopped. The version appears here once every file
        has the digest of its manifest.

        Raises:
            RemoteError: there is no such version, another one has its number here, a file there is
                not what was pushed, or the place cannot be reached.
        """
        there = self._version(model, version)
        digest = self._sealed(there)
        if digest is None:
            known = ", ".join(v for m, v in self.versions() if m == model) or "none"
            raise RemoteError(f"{self.url} has no version {version} of {model}. There: {known}.")
        if version in registry.versions(model):
            return self._is_here(registry, model, version, digest)
        with registry.arriving(model, f"{version}-{digest[:16]}") as folder:
            if version in registry.versions(model):  # another pull was first
                return self._is_here(registry, model, version, digest)
            self._fetch(f"{there}/{digest}", MANIFEST, digest, folder, progress)
            seal = f"{digest}  {MANIFEST}\n"
            write_atomically(folder / SEAL, seal.encode())
            manifest = read_manifest(folder)
            if (manifest.model, manifest.version) != (model, version):
                raise RemoteError(
                    f"{there} holds version {manifest.version} of {manifest.model}: somebody "
                    "moved it. Delete it there, and push what belongs there."
                )
            for name, wanted in manifest.files.items():
                self._fetch(f"{there}/{digest}", name, wanted, folder, progress)
            check_files(folder, manifest)
            registry.adopt(folder, manifest)
        return True

    def _version(self, model: str, version: str) -> str:
        if not MODEL_NAME.fullmatch(model) or not VERSION_NAME.fullmatch(version):
            raise RemoteError(f"{model} {version} names no version: a model and a number.")
        return f"{self._root}/{model}/{version}"

    def _sealed(self, there: str) -> str | None:
        """Return the digest of the manifest that a version there is sealed with."""

        def read() -> bytes | None:
            try:
                content: bytes = self._files.cat_file(f"{there}/{SEAL}")
            except FileNotFoundError:
                return None
            return content

        content = _asked(read, there)
        if content is None:
            return None
        digest = content.decode("ascii", "replace").split(" ")[0]
        if not DIGEST.fullmatch(digest):
            raise RemoteError(f"{there}/{SEAL} is no seal. Delete it there, and push again.")
        return digest

    def _seal(self, path: str, digest: str) -> bool:
        """Write the seal if there is none; return whether this call wrote it."""
        content = f"{digest}  {MANIFEST}\n".encode()
        if "file" in _protocols(self._files):
            return _link(Path(path), content)
        try:
            self._files.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            # Whether it was refused or the answer was lost on the way: what stands there tells.
            if self._sealed(posixpath.dirname(path)) is None:
                raise _unreachable(path, error) from error
            return False
        return True

    def _send(self, folder: Path, manifest: Manifest, there: str, progress: Progress) -> None:
        sizes = self._sizes(there)
        # The manifest goes last: files without it are rubbish that nobody has to understand.
        for name in (*sorted(manifest.files), MANIFEST):
            size = (folder / name).stat().st_size
            if sizes.get(name) != size:
                progress(name, 0, size)
                path = f"{there}/{name}"
                _asked(partial(self._put, folder / name, path), path)
            progress(name, size, size)

    def _put(self, file: Path, path: str) -> None:
        self._files.makedirs(posixpath.dirname(path), exist_ok=True)
        self._files.put_file(str(file), path)

    def _sizes(self, there: str) -> dict[str, int]:
        def listed() -> dict[str, Any]:
            found: dict[str, Any] = self._files.find(there, detail=True)
            return found

        found = _asked(listed, there)
        return {path[len(there) + 1 :]: int(entry["size"]) for path, entry in found.items()}

    def _fetch(self, there: str, name: str, digest: str, folder: Path, progress: Progress) -> None:
        whole, path = inside(folder, name), f"{there}/{name}"
        if whole.is_file() and sha256_of(whole) == digest:
            return
        part = whole.with_name(f".{whole.name}.part")
        try:
            size = int(_asked(lambda: self._files.info(path)["size"], path))
        except FileNotFoundError:
            raise _damaged(path, "is missing") from None
        whole.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as stream:
            while stream.tell() < size:
                progress(name, stream.tell(), size)
                start, end = stream.tell(), min(stream.tell() + PART_BYTES, size)
                content = _asked(partial(self._files.cat_file, path, start=start, end=end), path)
                if len(content) != end - start:
                    raise _unreachable(path, OSError(f"{len(content)} of {end - start} bytes came"))
                stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if sha256_of(part) != digest:
            part.unlink()
            raise _damaged(path, "is not what was pushed: its digest is another")
        part.replace(whole)
        progress(name, size, size)

    def _is_here(self, registry: Registry, model: str, version: str, digest: str) -> bool:
        here = registry.folder(model, version)
        if sha256_of(here / MANIFEST) != digest:
            raise RemoteError(
                f"{here} is another version than number {version} of {model} at {self.url}. Yours "
                "was never pushed: move its folder away, pull, and train it anew for a new number."
            )
        return False

    def _forget(self, there: str) -> None:
        try:
            self._files.rm(there, recursive=True)
        except Exception:  # noqa: BLE001 - nobody reads what has no seal
            return

    def _taken(self, manifest: Manifest, digest: str | None) -> RemoteError:
        return RemoteError(
            f"{self.url} has another version {manifest.version} of {manifest.model} "
            f"(manifest {(digest or '')[:12]}…), and a version is never overwritten. Train yours "
            f"anew after `pull {manifest.model} {manifest.version}` in a clean registry: it gets "
            "the next number."
        )


def _asked(call: Callable[[], Answer], where: str) -> Answer:
    """Ask the place, which asks again by itself when a connection is cut."""
    try:
        return call()
    except FileNotFoundError:
        raise
    except Exception as error:
        raise _unreachable(where, error) from error


def _unreachable(where: str, error: Exception) -> RemoteError:
    return RemoteError(
        f"{where}: {type(error).__name__}: {error}. What was copied is kept: the same "
        "command goes on from there."
    )


def _damaged(path: str, problem: str) -> RemoteError:
    return RemoteError(
        f"{path} {problem}. Nothing of it is used. Delete it there, and push the version again "
        "from a registry that has it."
    )


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _link(path: Path, content: bytes) -> bool:
    """Create a file whole, unless there is one: a share has no conditional put, but has links."""
    beside = path.with_name(f".{path.name}.{hashlib.sha256(os.urandom(8)).hexdigest()[:8]}")
    write_atomically(beside, content)
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True
