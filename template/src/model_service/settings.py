"""The settings of a service: `service.yaml`, then `MODEL_SERVICE_…` variables on top.

A nested setting is named in the environment by its path, joined by two underscores:
`MODEL_SERVICE_LIMITS__ROWS_PER_REQUEST=500`. Unknown names are refused in both places.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import yaml

from model_service.repository import Repository

PREFIX = "MODEL_SERVICE_"

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
CallerName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,62}$")]
KeyDigest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]


class SettingsError(Exception):
    """A setting that is not understood; says where it stands and what would be right."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the service listens (port 0 takes any free one), and which models it serves: all of
    them if none is named. After SIGTERM it answers on for `drain_seconds`, and says meanwhile that
    it is not ready, so that callers go elsewhere."""

    host: str = "127.0.0.1"
    port: Port = 8080
    workers: Count = 1
    drain_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    models: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request may ask for. `body_bytes` holds before and after decompression;
    `queue_rows` is how many rows may wait for a model at once before callers get 429."""

    body_bytes: Count = 10 * 1024 * 1024
    rows_per_request: Count = 10_000
    seconds_per_request: Seconds = 10.0
    queue_rows: Count = 20_000


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `promote` refuses: `flipped_decisions` is the largest share of compared rows, 0 to 1,
    for which another class than the champion's may be answered."""

    flipped_decisions: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1


class Stores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where trained versions are kept: a folder, relative to the repository."""

    registry: str = "registry"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set about a service.

    `api_keys` maps the names of callers to the digests of their keys; without any, everybody who
    reaches the service may ask.
    """

    name: str
    title: str = ""
    description: str = ""
    team: str = ""
    owners: tuple[str, ...] = ()
    launch_date: dt.date | None = None
    api_keys: dict[CallerName, KeyDigest] = {}
    server: Server = Server()
    limits: Limits = Limits()
    promotion: Promotion = Promotion()
    stores: Stores = Stores()


def read_settings(repository: Repository, environ: Mapping[str, str]) -> Settings:
    """Read `service.yaml` and the variables that override it.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or has a wrong value.
    """
    path = repository.service_file
    try:
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    if not isinstance(stated, dict):
        raise SettingsError(f'{path} must hold settings such as "name: my-service".')
    _convert(stated, str(path))
    for variable, dotted in _overrides(environ):
        _set(stated, dotted, environ[variable])
        _convert(stated, variable)
    return _convert(stated, str(path))


def setting_names() -> list[str]:
    """Return every setting by its dotted path, such as `limits.rows_per_request`."""
    return list(_leaves(Settings))


def variable_of(setting: str) -> str:
    """Return the environment variable that overrides a setting."""
    return PREFIX + setting.replace(".", "__").upper()


def _leaves(struct: type[msgspec.Struct], above: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _leaves(field.type, f"{above}{field.name}.")
        else:
            yield above + field.name


def _overrides(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    known = {variable_of(name): name for name in setting_names()}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        if variable not in known:
            raise SettingsError(f"{variable} is no setting.{_did_you_mean(variable, list(known))}")
        yield variable, known[variable]


def _set(stated: dict[str, Any], dotted: str, value: str) -> None:
    *folders, leaf = dotted.split(".")
    for folder in folders:
        stated = stated.setdefault(folder, {})
    stated[leaf] = value if dotted in _TEXT else yaml.safe_load(value)


_TEXT = ("name", "title", "description", "team", "server.host", "stores.registry")


def _convert(stated: dict[str, Any], where: str) -> Settings:
    try:
        return msgspec.convert(stated, Settings)
    except msgspec.ValidationError as error:
        words = str(error).split("`")
        hint = _did_you_mean(words[1], setting_names()) if "unknown field" in str(error) else ""
        raise SettingsError(f"{where}: {error}.{hint}") from None


def _did_you_mean(word: str, known: list[str]) -> str:
    bare = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(word, [*known, *bare], n=1, cutoff=0.5)
    if close:
        return f" Did you mean {bare.get(close[0], close[0])}?"
    return f" Known: {', '.join(known)}."
