"""Counts and durations of the service, in the Prometheus text format.

The hot path only adds to rows of numbers that were bound to a resolved version beforehand; they
become metric families when somebody scrapes, summed over all workers. Labels come from the registry
and from contracts, never from a request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from model_service.registry.manifest import DRILL
from model_service.serving.shared_numbers import Numbers, OwnNumbers, Row
from model_service.settings import Slo

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PREFIX = "model_service_"
HTTP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)
PREDICTION_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)
STAGE_SECONDS = (0.0001, 0.0005, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0)

HTTP = "http_request_duration_seconds"
OUTCOMES = ("ok", "invalid_input", "model_error", "timeout", "shed")
SHADOW_OUTCOMES = ("agrees", "differs", "refused", "failed", "dropped")
STAGES = ("read", "queue", "predict", "encode")
"""Of one request: its rows are read and checked, wait for the model, are answered by it (together
with those of other requests), and become the bytes of an answer."""
_PROBLEM_OF_CODE = {
    "missing": "missing",
    "unknown_category": "unseen",
    "out_of_range": "out_of_range",
    "unknown_field": "unknown_field",
}


class Family(msgspec.Struct, frozen=True):
    """What a metric is; its rows are kept by its name. Histograms have `bounds` in seconds."""

    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    hidden_while_zero: bool = False


_VERSION = ("model", "version")
FAMILIES: dict[str, Family] = {
    HTTP: Family(
        "Time from the head of a request to its answer",
        ("method", "route", "status_class"),
        HTTP_SECONDS,
    ),
    "predictions": Family("Rows by what became of them", (*_VERSION, "outcome")),
    "prediction_duration_seconds": Family(
        "Time from a whole request to its answer, for requests that reached the model",
        _VERSION,
        PREDICTION_SECONDS,
    ),
    "stage_duration_seconds": Family(
        "Time of each stage of a request that was answered",
        (*_VERSION, "stage"),
        STAGE_SECONDS,
    ),
    "input_problems": Family(
        "Values that a policy mended or a row was refused for", (*_VERSION, "feature", "problem")
    ),
    "shadow_rows": Family(
        "Rows that a shadow was asked as well, by how its answers compare",
        (*_VERSION, "outcome"),
        hidden_while_zero=True,
    ),
    "key_requests": Family("Requests by the name of the caller's API key", ("key",)),
    "key_refused_requests": Family("Requests without a key that is known"),
    "log_lines_dropped": Family("Log lines dropped because writing was too slow"),
    "prediction_log_rows": Family(
        "Rows for the prediction log: written, or dropped because too many waited", ("result",)
    ),
    "prediction_log_failures": Family("Writes of the prediction log that failed for now"),
    "hook_calls": Family(
        "Calls of the team's hooks: ok, failed, hung, or dropped because too many waited",
        ("hook", "result"),
    ),
}
"""Every counter and histogram; the text format adds `model_service_` and `_total`."""


class Histogram:
    """Durations in seconds: a row of one count for each bucket, and their sum."""

    __slots__ = ("_bounds", "_row")

    def __init__(self, bounds: tuple[float, ...], row: Row) -> None:
        self._bounds = bounds
        self._row = row

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._row[bisect_left(self._bounds, seconds)] += 1
        self._row[-1] += seconds


class Tally:
    """Counts by a name, each in a row of its own."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> float:
        """Return what this process counted, or the worker that it replaced."""
        return self._rows[name][0]

    def __setitem__(self, name: str, count: float) -> None:
        """Let a count be this."""
        self._rows[name][0] = count


class VersionMeters:
    """The numbers of one resolved version. `outcomes` and `shadow_rows` count rows."""

    __slots__ = (
        *("_numbers", "_problems", "model", "version"),
        *("outcomes", "seconds", "shadow_rows", "stages"),
    )

    def __init__(self, model: str, version: str, numbers: Numbers) -> None:
        self.model = model
        self.version = version
        self._numbers = numbers
        self._problems: dict[tuple[str, str], Row] = {}
        self.outcomes = self._tally("predictions", OUTCOMES)
        self.shadow_rows = self._tally("shadow_rows", SHADOW_OUTCOMES)
        self.seconds = self._histogram("prediction_duration_seconds")
        width = len(STAGE_SECONDS) + 2
        self.stages = tuple(
            self._row("stage_duration_seconds", stage, width=width) for stage in STAGES
        )

    def of_drill(self) -> VersionMeters:
        """Return the numbers of the version as a fire drill asks it."""
        return VersionMeters(self.model, f"{self.version}{DRILL}", self._numbers)

    def count_problem(self, feature: str, code: str) -> None:
        """Count a value that a policy mended or a row was refused for.

        `feature` must be a name of the contract; for a field that the contract does not know it
        is not used, since a caller invented it.
        """
        name = "unknown" if code == "unknown_field" else feature
        problem = (name, _PROBLEM_OF_CODE.get(code, "invalid"))
        row = self._problems.get(problem)
        if row is None:
            row = self._problems[problem] = self._row("input_problems", *problem)
        row[0] += 1

    def observe_stages(
        self, started: float, read_at: float, answered_at: float, ended: float, predicting: float
    ) -> None:
        """Count how long each stage took of a request, the last of them its encoding.

        The moments are those of `time.perf_counter`, `predicting` is the model's share in seconds.
        """
        read, queue, predict, encode = self.stages
        for row, seconds in (
            (read, read_at - started),
            (queue, answered_at - read_at - predicting),
            (predict, predicting),
            (encode, ended - answered_at),
        ):
            row[bisect_left(STAGE_SECONDS, seconds)] += 1
            row[-1] += seconds

    def _row(self, family: str, *labels: str, width: int = 1) -> Row:
        return self._numbers.row((family, (self.model, self.version, *labels)), width)

    def _tally(self, family: str, names: Sequence[str]) -> Tally:
        return Tally({name: self._row(family, name) for name in names})

    def _histogram(self, family: str, *labels: str) -> Histogram:
        bounds = FAMILIES[family].bounds
        return Histogram(bounds, self._row(family, *labels, width=len(bounds) + 2))


class VersionStatus:
    """What a scrape says of a version that traffic.yaml names, loaded or not."""

    __slots__ = ("aliases", "format", "model", "state", "version")

    def __init__(
        self, model: str, version: str, state: str, aliases: tuple[str, ...], file_format: str
    ) -> None:
        self.model = model
        self.version = version
        self.state = state
        self.aliases = aliases
        self.format = file_format


class _Mirrored:
    """A number that something else counts, from 0 on in each process."""

    def __init__(self, row: Row, read: Callable[[], float]) -> None:
        self._row = row
        self._read = read
        self._seen = 0.0

    def refresh(self) -> None:
        now = self._read()
        self._row[0] += now - self._seen
        self._seen = now


class Metrics(Collector):
    """All numbers of one app. Two apps in one process do not share any.

    `statuses`, `follows_traffic` and `is_draining` are asked at each scrape, and tell of this
    worker.
    """

    def __init__(
        self,
        statuses: Callable[[], Iterable[VersionStatus]],
        follows_traffic: Callable[[], bool],
        is_draining: Callable[[], bool] = lambda: False,
        slo: Slo | None = None,
        numbers: Numbers | None = None,
    ) -> None:
        self._is_draining = is_draining
        self._slo = slo or Slo()
        # Alerts on slow answers ask for the bucket that ends at the stated latency.
        bounds = tuple(sorted({*HTTP_SECONDS, self._slo.latency_seconds}))
        http = msgspec.structs.replace(FAMILIES[HTTP], bounds=bounds)
        self._families = {**FAMILIES, HTTP: http}
        self._numbers = numbers or OwnNumbers()
        self._statuses = statuses
        self._follows_traffic = follows_traffic
        self._versions: dict[tuple[str, str], VersionMeters] = {}
        self._http: dict[tuple[str, str, int], Histogram] = {}
        self._mirrored: list[_Mirrored] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def version(self, model: str, version: str) -> VersionMeters:
        """Return the meters of a resolved version; the same ones if it is loaded again."""
        key = (model, version)
        if key not in self._versions:
            self._versions[key] = VersionMeters(model, version, self._numbers)
        return self._versions[key]

    def counter(self, family: str, *labels: str) -> Row:
        """Return the row of a counter: add to its first and only number."""
        return self._numbers.row((family, labels), 1)

    def mirror(self, family: str, read: Callable[[], float], *labels: str) -> None:
        """Count what something else counts: `read` gives its count since the process began."""
        self._mirrored.append(_Mirrored(self.counter(family, *labels), read))

    def refresh(self) -> None:
        """Take over what is mirrored; called a few times a second, and at each scrape."""
        for mirrored in self._mirrored:
            mirrored.refresh()

    def observe_http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is a template such as `/v1/models/{model}`."""
        key = (method, route, status // 100)
        histogram = self._http.get(key)
        if histogram is None:
            labels = (method, route, f"{status // 100}xx")
            bounds = self._families[HTTP].bounds
            row = self._numbers.row((HTTP, labels), len(bounds) + 2)
            histogram = self._http[key] = Histogram(bounds, row)
        histogram.observe(seconds)

    def answered_by(self, model: str, version: str) -> tuple[dict[str, float], float]:
        """Return the rows of a version by outcome and the seconds it took, over all workers."""
        totals = self._numbers.totals()
        rows = {o: totals["predictions", (model, version, o)][0] for o in OUTCOMES}
        return rows, totals["prediction_duration_seconds", (model, version)][-1]

    def exposition(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Make the families of one scrape."""
        self.refresh()
        by_family: dict[str, list[tuple[Sequence[str], Sequence[float]]]] = {}
        for (name, labels), row in self._numbers.totals().items():
            by_family.setdefault(name, []).append((labels, row))
        for name, family in self._families.items():
            if name in by_family:
                yield _family_of(name, family, by_family[name])
        yield from self._state_families()
        yield _gauge(
            "follows_traffic",
            "1 while what traffic.yaml says is served; 0 when a change of it was refused",
            int(self._follows_traffic()),
        )
        yield _gauge("workers", "Processes that answer on this port", self._numbers.workers())
        yield _gauge(
            "draining",
            "1 once the process was told to stop and sends callers elsewhere",
            int(self._is_draining()),
        )
        # What the alert rules compare with: they are files that know no settings.
        slo = self._slo
        yield _gauge("slo_availability", "slo.availability of service.yaml", slo.availability)
        yield _gauge("slo_latency_share", "slo.latency_share of service.yaml", slo.latency_share)
        latency = GaugeMetricFamily(
            f"{PREFIX}slo_latency_seconds",
            "slo.latency_milliseconds of service.yaml; le is the bucket that ends there",
            labels=["le"],
        )
        latency.add_metric([str(slo.latency_seconds)], slo.latency_seconds)
        yield latency

    def _state_families(self) -> Iterator[Metric]:
        labels = ["model", "version"]
        info = GaugeMetricFamily(
            f"{PREFIX}model_info",
            "1 for each version that answers",
            labels=[*labels, "alias", "format"],
        )
        state = GaugeMetricFamily(
            f"{PREFIX}version_state",
            "1 for the state each version is in: loading, ready or failed",
            labels=[*labels, "state"],
        )
        for status in self._statuses():
            state.add_metric([status.model, status.version, status.state], 1)
            if status.state == "ready":
                for alias in status.aliases or ("",):
                    info.add_metric([status.model, status.version, alias, status.format], 1)
        yield from (info, state)


Rows = Iterable[tuple[Sequence[str], Sequence[float]]]


def _family_of(name: str, family: Family, rows: Rows) -> Metric:
    if family.hidden_while_zero:
        rows = list(rows)
        counted = {tuple(labels[:-1]) for labels, row in rows if any(row)}
        rows = [(labels, row) for labels, row in rows if tuple(labels[:-1]) in counted]
    if not family.bounds:
        counter = CounterMetricFamily(f"{PREFIX}{name}", family.help, labels=family.labels)
        for labels, row in rows:
            counter.add_metric(labels, row[0])
        return counter
    histogram = HistogramMetricFamily(f"{PREFIX}{name}", family.help, labels=family.labels)
    bounds = [*map(str, family.bounds), "+Inf"]
    for labels, row in rows:
        buckets = list(zip(bounds, accumulate(row[:-1]), strict=True))
        histogram.add_metric(labels, buckets, row[-1])
    return histogram


def _gauge(name: str, told: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(f"{PREFIX}{name}", told)
    gauge.add_metric([], value)
    return gauge
