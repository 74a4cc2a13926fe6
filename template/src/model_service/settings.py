"""The settings of a service: `service.yaml`, then `MODEL_SERVICE_…` variables on top.

A nested setting is named in the environment by its path, joined by two underscores:
`MODEL_SERVICE_LIMITS__ROWS_PER_REQUEST=500`. Unknown names are refused in both places.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
import yaml

from model_service.files import FileError, read_yaml
from model_service.repository import Repository
from model_service.setting_names import did_you_mean, hint_for, names_in

PREFIX = "MODEL_SERVICE_"

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
DAY = 86_400
Seconds = Annotated[float, msgspec.Meta(gt=0, le=DAY)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
CallerName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,62}$")]
KeyDigest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]


class SettingsError(Exception):
    """A setting that is not understood; says where it stands and what would be right."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the service listens (port 0 takes any free one), and which models it serves: all of
    them if none is named. After SIGTERM it answers on for `drain_seconds`, and says meanwhile that
    it is not ready, so that callers go elsewhere. With `stub` it answers from the contracts alone,
    with values that are made up."""

    host: str = "127.0.0.1"
    port: Port = 8080
    workers: Count = 1
    drain_seconds: Annotated[float, msgspec.Meta(ge=0, le=DAY)] = 5.0
    models: tuple[str, ...] = ()
    stub: bool = False


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request may ask for. `body_bytes` holds before and after decompression;
    callers get 429 when `queue_rows` rows wait for a model, or as many as it would probably take
    `queue_seconds` to answer."""

    body_bytes: Count = 10 * 1024 * 1024
    rows_per_request: Count = 10_000
    seconds_per_request: Seconds = 10.0
    queue_rows: Count = 20_000
    queue_seconds: Seconds = 2.0


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `promote` refuses: `flipped_decisions` is the largest share of compared rows, 0 to 1,
    for which another class than the champion's may be answered."""

    flipped_decisions: Share = 0.1


class Stores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where trained versions are kept (a folder, relative to the repository), and where the
    prediction log is: a folder that holds it as SQLite, or `postgresql://…`; "" for none.
    `remote_registry` is where `push` and `pull` copy versions: `s3://bucket/path`, `gs://…`,
    `abfs://…` or a folder of others, `file:///…`."""

    registry: str = "registry"
    prediction_log: str = "prediction_log"
    remote_registry: str = ""


class PredictionLog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of answered rows: the features of all, of none, or those named here; rows that
    are older than `retention_days`, or do not fit into `retention_megabytes`, are deleted. At most
    `queue_rows` wait to be written; more are dropped and counted. `salt` is the secret of the
    hashes that stand for sensitive features; a log in a folder makes its own if there is none."""

    store_features: Literal["all", "none"] | tuple[str, ...] = "all"
    retention_days: Count = 30
    retention_megabytes: Count = 2048
    queue_rows: Count = 50_000
    salt: str = ""


class Monitoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How models are watched. `false_alarms_per_month` is the budget of each model, from which
    every level follows; the monitor's own /metrics are on `host` and `port`. A window that is
    judged has at least `window_rows` and `window_seconds`, or is a day long. A fire drill asks
    `prometheus` and `alertmanager` (their URLs) whether the alarm came so far; "" for none."""

    false_alarms_per_month: Annotated[float, msgspec.Meta(gt=0, le=100)] = 0.1
    host: str = "127.0.0.1"
    port: Port = 9108
    seconds_between_runs: Seconds = 60.0
    window_rows: Count = 500
    window_seconds: Seconds = 3600.0
    prometheus: str = ""
    alertmanager: str = ""


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What callers are promised over 30 days: the share of requests that are answered, and the
    share of those that are answered within `latency_milliseconds`."""

    availability: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.999
    latency_milliseconds: Annotated[float, msgspec.Meta(gt=0)] = 100.0
    latency_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.99

    @property
    def latency_seconds(self) -> float:
        """The stated latency in seconds."""
        return self.latency_milliseconds / 1000


class Contacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to ask: accounts, teams or channels; empty while unknown, which `handoff check` says."""

    on_call: str = ""
    backend: str = ""
    devops: str = ""
    product: str = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set about a service.

    `level` says how much depends on the service, A most and C least. `api_keys` maps the names of
    callers to the digests of their keys; without any, everybody who reaches the service may ask.
    With `tracing`, each request is a span of OpenTelemetry.
    """

    name: str
    title: str = ""
    description: str = ""
    team: str = ""
    owners: tuple[str, ...] = ()
    launch_date: dt.date | None = None
    level: Literal["A", "B", "C"] = "B"
    contacts: Contacts = Contacts()
    slo: Slo = Slo()
    api_keys: dict[CallerName, KeyDigest] = {}
    server: Server = Server()
    limits: Limits = Limits()
    promotion: Promotion = Promotion()
    stores: Stores = Stores()
    prediction_log: PredictionLog = PredictionLog()
    monitoring: Monitoring = Monitoring()
    tracing: bool = False


def read_settings(repository: Repository, environ: Mapping[str, str]) -> Settings:
    """Read `service.yaml` and the variables that override it.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or has a wrong value.
    """
    path = repository.service_file
    try:
        stated = read_yaml(path)
    except (OSError, FileError) as error:
        raise SettingsError(str(error)) from None
    if not isinstance(stated, dict):
        raise SettingsError(f'{path} must hold settings such as "name: my-service".')
    _convert(stated, str(path))
    for variable, dotted in _overrides(environ):
        try:
            _set(stated, dotted, environ[variable])
        except (yaml.YAMLError, ValueError) as error:
            raise SettingsError(f"{variable} is not understood: {error}") from None
        _convert(stated, variable)
    return _convert(stated, str(path))


def setting_names() -> list[str]:
    """Return every setting by its dotted path, such as `limits.rows_per_request`."""
    return list(names_in(Settings))


def variable_of(setting: str) -> str:
    """Return the environment variable that overrides a setting."""
    return PREFIX + setting.replace(".", "__").upper()


def _overrides(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    known = {variable_of(name): name for name in setting_names()}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        if variable not in known:
            raise SettingsError(f"{variable} is no setting.{did_you_mean(variable, list(known))}")
        yield variable, known[variable]


def _set(stated: dict[str, Any], dotted: str, value: str) -> None:
    *folders, leaf = dotted.split(".")
    for folder in folders:
        stated = stated.setdefault(folder, {})
    stated[leaf] = value if dotted in _TEXT else yaml.safe_load(value)


_TEXT = (
    "name",
    "title",
    "description",
    "team",
    "level",
    "contacts.on_call",
    "contacts.backend",
    "contacts.devops",
    "contacts.product",
    "server.host",
    "stores.registry",
    "stores.prediction_log",
    "stores.remote_registry",
    "prediction_log.salt",
    "monitoring.host",
)


def _convert(stated: dict[str, Any], where: str) -> Settings:
    try:
        return msgspec.convert(stated, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}.{hint_for(error, setting_names())}") from None
