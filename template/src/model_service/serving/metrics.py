"""Counts and durations of the service, in the Prometheus text format.

The hot path only adds to plain numbers that were bound to a resolved version beforehand; they
become metric families when somebody scrapes. All of it runs in the event loop: nothing is locked.
Labels come from the registry and from contracts, never from a request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from model_service.serving.api_keys import ApiKeys

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PREFIX = "model_service_"
HTTP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)
PREDICTION_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)

OUTCOMES = ("ok", "invalid_input", "model_error", "timeout", "shed")
SHADOW_OUTCOMES = ("agrees", "differs", "refused", "failed", "dropped")
_PROBLEM_OF_CODE = {
    "missing": "missing",
    "unknown_category": "unseen",
    "out_of_range": "out_of_range",
    "unknown_field": "unknown_field",
}


class Histogram:
    """Durations in seconds, counted in buckets."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """Add the cumulated buckets to a family."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, self.sum)


class VersionMeters:
    """The numbers of one resolved version. `outcomes` and `shadow_rows` count rows."""

    __slots__ = ("model", "outcomes", "problems", "seconds", "shadow_rows", "version")

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.problems: Counter[tuple[str, str]] = Counter()
        self.seconds = Histogram(PREDICTION_SECONDS)
        self.shadow_rows = dict.fromkeys(SHADOW_OUTCOMES, 0)

    def count_problem(self, feature: str, code: str) -> None:
        """Count a value that a policy mended or a row was refused for.

        `feature` must be a name of the contract; for a field that the contract does not know it
        is not used, since a caller invented it.
        """
        name = "unknown" if code == "unknown_field" else feature
        self.problems[name, _PROBLEM_OF_CODE.get(code, "invalid")] += 1


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


class Metrics(Collector):
    """All numbers of one app. Two apps in one process do not share any.

    `statuses`, `lines_dropped` and `follows_traffic` are asked at each scrape.
    """

    def __init__(
        self,
        statuses: Callable[[], Iterable[VersionStatus]],
        lines_dropped: Callable[[], int],
        follows_traffic: Callable[[], bool],
        api_keys: ApiKeys,
    ) -> None:
        self._statuses = statuses
        self._lines_dropped = lines_dropped
        self._follows_traffic = follows_traffic
        self._api_keys = api_keys
        self._versions: dict[tuple[str, str], VersionMeters] = {}
        self._http: dict[tuple[str, str, int], Histogram] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def version(self, model: str, version: str) -> VersionMeters:
        """Return the meters of a resolved version; the same ones if it is loaded again."""
        key = (model, version)
        if key not in self._versions:
            self._versions[key] = VersionMeters(model, version)
        return self._versions[key]

    def observe_http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is a template such as `/v1/models/{model}`."""
        key = (method, route, status // 100)
        histogram = self._http.get(key)
        if histogram is None:
            histogram = self._http[key] = Histogram(HTTP_SECONDS)
        histogram.observe(seconds)

    def exposition(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Make the families of one scrape."""
        yield self._http_family()
        yield from self._prediction_families()
        yield from self._state_families()
        yield from self._key_families()
        dropped = CounterMetricFamily(
            f"{PREFIX}log_lines_dropped", "Log lines dropped because writing was too slow"
        )
        dropped.add_metric([], self._lines_dropped())
        yield dropped
        follows = GaugeMetricFamily(
            f"{PREFIX}follows_traffic",
            "1 while what traffic.yaml says is served; 0 when a change of it was refused",
        )
        follows.add_metric([], int(self._follows_traffic()))
        yield follows

    def _key_families(self) -> Iterator[Metric]:
        keys = self._api_keys
        if not keys.requests:
            return
        asked = CounterMetricFamily(
            f"{PREFIX}key_requests", "Requests by the name of the caller's API key", labels=["key"]
        )
        for name, count in keys.requests.items():
            asked.add_metric([name], count)
        yield asked
        refused = CounterMetricFamily(
            f"{PREFIX}key_refused_requests", "Requests without a key that is known"
        )
        refused.add_metric([], keys.refused)
        yield refused

    def _http_family(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            f"{PREFIX}http_request_duration_seconds",
            "Time from the head of a request to its answer",
            labels=["method", "route", "status_class"],
        )
        for (method, route, hundreds), histogram in self._http.items():
            histogram.add_to(family, [method, route, f"{hundreds}xx"])
        return family

    def _prediction_families(self) -> Iterator[Metric]:
        labels = ["model", "version"]
        predictions = CounterMetricFamily(
            f"{PREFIX}predictions", "Rows by what became of them", labels=[*labels, "outcome"]
        )
        seconds = HistogramMetricFamily(
            f"{PREFIX}prediction_duration_seconds",
            "Time from a whole request to its answer, for requests that reached the model",
            labels=labels,
        )
        problems = CounterMetricFamily(
            f"{PREFIX}input_problems",
            "Values that a policy mended or a row was refused for",
            labels=[*labels, "feature", "problem"],
        )
        shadows = CounterMetricFamily(
            f"{PREFIX}shadow_rows",
            "Rows that a shadow was asked as well, by how its answers compare",
            labels=[*labels, "outcome"],
        )
        for meters in list(self._versions.values()):
            names = [meters.model, meters.version]
            for outcome, rows in meters.outcomes.items():
                predictions.add_metric([*names, outcome], rows)
            for (feature, problem), count in meters.problems.items():
                problems.add_metric([*names, feature, problem], count)
            meters.seconds.add_to(seconds, names)
            if any(meters.shadow_rows.values()):
                for outcome, rows in meters.shadow_rows.items():
                    shadows.add_metric([*names, outcome], rows)
        yield from (predictions, seconds, problems, shadows)

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
