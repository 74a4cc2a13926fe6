"""Salted hashes that stand for values nobody may read in the prediction log."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec

from model_service.prediction_log.database import StoreError

SALT_FILE = "salt"
PREFIX = "hashed:"
_encode = msgspec.json.Encoder(order="sorted").encode


class Pseudonyms:
    """The same value always gets the same hash, and only who has the salt can try values out.

    Without a salt there are no hashes: what would be hashed is left out.
    """

    def __init__(self, salt: bytes | None) -> None:
        self._salt = hashlib.sha256(salt).digest() if salt else None

    @property
    def can_hash(self) -> bool:
        """Whether there is a salt."""
        return self._salt is not None

    def of(self, value: Any) -> str | None:
        """Return the hash of a JSON value (BLAKE2b with the salt as its key); None without a salt.

        A value that is missing stays missing.
        """
        if self._salt is None or value is None:
            return None
        digest = hashlib.blake2b(_encode(value), digest_size=16, key=self._salt)
        return PREFIX + digest.hexdigest()


def read_pseudonyms(salt: str, place: str, root: Path) -> Pseudonyms:
    """Return the pseudonyms of a prediction log.

    Without a setting, the salt of a log in a folder is a file beside it, made by whoever comes
    first; a log in a database, which several machines share, has no salt then.

    Raises:
        StoreError: the file cannot be read or made.
    """
    if salt:
        return Pseudonyms(salt.encode())
    if not place or "://" in place:
        return Pseudonyms(None)
    path = root / place / SALT_FILE
    try:
        if not path.exists():
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            _make_salt(path)
        return Pseudonyms(path.read_bytes())
    except OSError as error:
        raise StoreError(f"The salt of the prediction log, {path}, fails: {error}.") from error


def _make_salt(path: Path) -> None:
    """Write a random salt, unless another process does so at the same moment."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_hex(32).encode())
            stream.flush()
            os.fsync(stream.fileno())
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()
