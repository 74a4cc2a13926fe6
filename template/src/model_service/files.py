"""Files that are either whole or not there, and YAML that says what it cannot mean."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

import yaml


class FileError(Exception):
    """A file cannot be read, or is no YAML that could be meant; says where and why."""


class _Loader(yaml.SafeLoader):
    """Loads YAML; refuses a key that stands twice, and a value that its own type refuses."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise _refusal(key, "stands here a second time")
            keys.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            found = super().construct_object(node, deep)
            if isinstance(found, str):
                found.encode()  # half a character can be escaped, and written nowhere
        except (ValueError, LookupError, AttributeError):
            raise _refusal(node, "is not understood") from None
        return found


def _refusal(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    text = f"{str(node.value)[:80]!r} {problem}"
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds; None if that is nothing.

    Raises:
        FileNotFoundError: it is not there.
        FileError: it cannot be read, is no YAML, or holds a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise FileError(
            f"{path} cannot be read: line {line}: {error.problem or error.context}. Mind the "
            "indentation (spaces, no tabs), the colons, and quotes around text with special signs."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise FileError(f"{path} cannot be read: {error}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, so that a reader sees the old bytes or the new, never a half.

    The content is on disk when this returns: it survives the loss of power. Where `path` is a
    link, what it leads to is replaced: others may share that.
    """
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
