"""`traffic.yaml`: which version of each model answers, and who decided it when."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from model_service.files import write_atomically

HEADER = """\
# Which version of each model answers: written by `train` (a model's first version), `promote` and
# `rollback`. `pinned` versions are loaded as well, for callers that ask for one by its number.
"""
HISTORY_KEPT = 50

Version = Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,8}$")]


class TrafficError(Exception):
    """`traffic.yaml` is not understood, or cannot be changed as asked."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the history: since when which version was champion, and by whose command."""

    at: str
    champion: Version
    by: str


class ModelTraffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The versions of one model that are loaded."""

    champion: Version | None = None
    pinned: tuple[Version, ...] = ()
    history: tuple[Change, ...] = ()

    @property
    def served(self) -> tuple[str, ...]:
        """Every version that is loaded, the champion first."""
        first = (self.champion,) if self.champion else ()
        return first + tuple(v for v in dict.fromkeys(self.pinned) if v != self.champion)

    @property
    def previous_champion(self) -> str | None:
        """The version that was champion before, as far as the history tells."""
        others = [change.champion for change in self.history if change.champion != self.champion]
        return others[-1] if others else None


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    models: dict[str, ModelTraffic] = {}


def read_traffic(path: Path) -> Traffic:
    """Read `traffic.yaml`; a file that is not there or is empty names no model.

    Raises:
        TrafficError: the file cannot be read or says something that is not understood.
    """
    try:
        stated = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return Traffic()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrafficError(f"{path} cannot be read: {error}") from None
    try:
        return msgspec.convert(stated, Traffic)
    except msgspec.ValidationError as error:
        raise TrafficError(
            f"{path}: {error}. A model has the fields champion, pinned and history, and a version "
            'is a number in quotes, such as champion: "2".'
        ) from None


def promote(path: Path, model: str, version: str, by: str) -> None:
    """Make `version` the champion of `model` and add the change to the history."""
    _change(path, model, lambda entry: _with_champion(entry, version, by))


def promote_first(path: Path, model: str, version: str, by: str) -> bool:
    """Make `version` the champion if the model has none; return whether it is now.

    Of two first trainings at once, only one finds no champion.
    """

    def champion(entry: ModelTraffic) -> ModelTraffic:
        return entry if entry.champion else _with_champion(entry, version, by)

    return _change(path, model, champion).champion == version


def previous_champion(path: Path, model: str) -> str:
    """Return the champion before this one, which `rollback` lets answer again.

    Raises:
        TrafficError: the history knows of no other champion.
    """
    entry = read_traffic(path).models.get(model, ModelTraffic())
    if entry.previous_champion is None:
        raise TrafficError(
            f"{model} had no champion before version {entry.champion}: there is nothing to roll "
            f"back to. Choose a version yourself: `promote {model} VERSION`."
        )
    return entry.previous_champion


def _with_champion(entry: ModelTraffic, version: str, by: str) -> ModelTraffic:
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    history = (*entry.history, Change(at, version, by))[-HISTORY_KEPT:]
    return msgspec.structs.replace(entry, champion=version, history=history)


def _change(path: Path, model: str, change: Callable[[ModelTraffic], ModelTraffic]) -> ModelTraffic:
    with _locked(path.parent):
        traffic = read_traffic(path)
        before = traffic.models.get(model, ModelTraffic())
        after = change(before)
        if after != before:
            models = dict(sorted({**traffic.models, model: after}.items()))
            stated = msgspec.to_builtins(Traffic(models))
            text = HEADER + yaml.safe_dump(stated, sort_keys=False, allow_unicode=True)
            write_atomically(path, text.encode())
    return after


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The file cannot be locked, it is replaced by another one; a file beside it would be litter.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
