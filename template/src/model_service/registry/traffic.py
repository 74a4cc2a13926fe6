"""`traffic.yaml`: which version of each model answers, and who decided it when."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from model_service.files import FileError, read_yaml, write_atomically

HEADER = """\
# Which version of each model answers: written by `train` (a model's first version), `promote`,
# `rollback`, `canary` and `shadow`; a running service follows it. `challengers` get a percentage of
# the requests that name no version, `shadows` are asked as well and their answers only compared,
# `pinned` versions are loaded for callers that ask for one by its number.
"""
HISTORY_KEPT = 50

Version = Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,8}$")]
Percentage = Annotated[float, msgspec.Meta(gt=0, le=100)]


class TrafficError(Exception):
    """`traffic.yaml` is not understood, or cannot be changed as asked."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the history: since when which versions answered, and by whose command."""

    at: str
    champion: Version
    by: str
    challengers: dict[Version, Percentage] = {}
    shadows: tuple[Version, ...] = ()


class ModelTraffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The versions of one model that are loaded.

    `challengers` says which percentage of the requests that name no version each of them answers.
    """

    champion: Version | None = None
    challengers: dict[Version, Percentage] = {}
    shadows: tuple[Version, ...] = ()
    pinned: tuple[Version, ...] = ()
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        """Refuse roles that contradict each other."""
        if (self.challengers or self.shadows) and self.champion is None:
            raise ValueError("challengers and shadows need a champion")
        for role in ("challengers", "shadows"):
            if self.champion in getattr(self, role):
                raise ValueError(f"version {self.champion} is the champion and in {role}")
        both = sorted({*self.challengers} & {*self.shadows})
        if both:
            raise ValueError(f"version {both[0]} is a challenger and a shadow")
        if sum(self.challengers.values()) > 100:
            raise ValueError("the challengers get more than 100 percent")

    @property
    def served(self) -> tuple[str, ...]:
        """Every version that is loaded, the champion first."""
        first = (self.champion,) if self.champion else ()
        return tuple(dict.fromkeys((*first, *self.challengers, *self.shadows, *self.pinned)))

    def roles_of(self, version: str) -> tuple[str, ...]:
        """Return what a version is here, in the words of `traffic.yaml`."""
        roles = []
        if version == self.champion:
            roles.append("champion")
        if version in self.challengers:
            roles.append(f"challenger {self.challengers[version]:g}%")
        if version in self.shadows:
            roles.append("shadow")
        if version in self.pinned:
            roles.append("pinned")
        return tuple(roles)

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
        stated = read_yaml(path) or {}
    except FileNotFoundError:
        return Traffic()
    except FileError as error:
        raise TrafficError(str(error)) from None
    try:
        return msgspec.convert(stated, Traffic)
    except msgspec.ValidationError as error:
        raise TrafficError(
            f"{path}: {_named(stated, error)}. A model has the fields champion, challengers, "
            'shadows, pinned and history, and a version is a number in quotes: champion: "2".'
        ) from None


def _named(stated: Any, error: msgspec.ValidationError) -> str:
    """Return what is wrong with the name of the model, which the error itself leaves out."""
    models = stated.get("models") if isinstance(stated, dict) else None
    for name, entry in models.items() if isinstance(models, dict) else ():
        try:
            msgspec.convert(entry, ModelTraffic)
        except msgspec.ValidationError as found:
            return f"{name}: {found}"
    return str(error)


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


def canary(path: Path, model: str, version: str, percent: float, by: str) -> ModelTraffic:
    """Let `version` answer a percentage of the requests; 0 ends it. Return what holds then.

    Raises:
        TrafficError: the model has no champion, the version is it, or there is not so much left.
    """

    def changed(entry: ModelTraffic) -> ModelTraffic:
        challengers = {v: share for v, share in entry.challengers.items() if v != version}
        if percent > 0:
            challengers[version] = percent
        shadows = tuple(v for v in entry.shadows if v != version or percent <= 0)
        after = msgspec.structs.replace(entry, challengers=challengers, shadows=shadows)
        return _recorded(after, by) if after != entry else entry

    return _change(path, model, changed)


def shadow(path: Path, model: str, version: str, by: str, *, on: bool = True) -> ModelTraffic:
    """Ask `version` as well and only compare its answers, or stop to. Return what holds then.

    Raises:
        TrafficError: the model has no champion, or the version answers already.
    """

    def changed(entry: ModelTraffic) -> ModelTraffic:
        shadows = tuple(v for v in entry.shadows if v != version) + ((version,) if on else ())
        after = msgspec.structs.replace(entry, shadows=shadows)
        return _recorded(after, by) if after != entry else entry

    return _change(path, model, changed)


def _with_champion(entry: ModelTraffic, version: str, by: str) -> ModelTraffic:
    """Make a version champion; what it was before, it is no longer."""
    challengers = {v: share for v, share in entry.challengers.items() if v != version}
    shadows = tuple(v for v in entry.shadows if v != version)
    after = msgspec.structs.replace(
        entry, champion=version, challengers=challengers, shadows=shadows
    )
    return _recorded(after, by)


def _recorded(entry: ModelTraffic, by: str) -> ModelTraffic:
    """Return the entry with a line in its history that says what holds now."""
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    line = Change(at, entry.champion or "", by, entry.challengers, entry.shadows)
    return msgspec.structs.replace(entry, history=(*entry.history, line)[-HISTORY_KEPT:])


def _change(path: Path, model: str, change: Callable[[ModelTraffic], ModelTraffic]) -> ModelTraffic:
    with _locked(path.parent):
        traffic = read_traffic(path)
        before = traffic.models.get(model, ModelTraffic())
        try:
            after = change(before)
        except ValueError as error:
            raise TrafficError(f"{model}: {error}. Nothing was changed.") from None
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
