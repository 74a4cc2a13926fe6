"""What the monitor sees, as Prometheus metrics; labels come from registry and contracts only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_service.monitoring.memory import Alarm, Drill, VersionMemory
from model_service.monitoring.quality import reference_limit
from model_service.monitoring.watched_versions import WatchedVersion

PREFIX = "model_service_"
MOST_FEATURES = 50
"""Exported of each version; of more, the important ones first. The report shows all."""
SECONDS_AN_ENDED_ALARM_IS_TOLD = 3600.0
SECONDS_A_DAY = 86_400.0
SECONDS_OF_SILENCE = 3600.0
LONGEST_SILENCE = 3 * SECONDS_A_DAY
DAYS_UNTIL_A_RHYTHM_IS_KNOWN = 7

_M = ("model", "version")
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "drift_effect": (
        "Change of a feature in the newest window: PSI less its noise, or the rise of a share",
        (*_M, "feature", "kind"),
    ),
    "drift_noise_limit": ("What drift_effect must exceed to alarm", (*_M, "feature", "kind")),
    "drift_alert": ("1 while a change is an alarm, 0 for an hour after", (*_M, "feature", "kind")),
    "joint_drift_effect": ("Largest significant change of a correlation of two features", _M),
    "score": ("Numbers or probabilities answered in the newest window", (*_M, "q")),
    "performance": ("A metric over recent rows", (*_M, "metric", "source")),
    "performance_low": ("Lower end of its interval of 95%", (*_M, "metric", "source")),
    "performance_high": ("Upper end of its interval of 95%", (*_M, "metric", "source")),
    "performance_reference": ("The metric on held-out rows of training", (*_M, "metric", "source")),
    "performance_reference_limit": (
        "Worse end of the interval of training's metric",
        (*_M, "metric", "source"),
    ),
    "performance_gate": ("Worst value that the gate of train.py accepts", (*_M, "metric")),
    "ground_truth_age_seconds": ("Since ground truth last came, or since the first answer", _M),
    "ground_truth_due_seconds": ("After which ground truth is late, by model.yaml", _M),
    "label_lag_seconds": ("Mean time from an answer to its ground truth", _M),
    "label_coverage_ratio": ("Share of the answers that are due which have ground truth", _M),
    "traffic_age_seconds": ("Since the last row of a version that should be asked", _M),
    "traffic_due_seconds": ("After which that is unusual, by its own history", _M),
    "model_trained_timestamp_seconds": ("When the version was trained", _M),
    "model_max_age_seconds": ("How old it may become, by model.yaml", _M),
    "monitor_last_run_timestamp_seconds": ("When the version was last looked at", _M),
    "monitor_window_rows": ("Rows in the window that is still open", _M),
    "monitor_profile_info": (
        "1 for the state of the reference profile: ok, missing or mismatch",
        (*_M, "profile_sha", "state"),
    ),
    "monitor_seconds_between_runs": ("How often the monitor looks", ()),
    "monitor_last_drill_timestamp_seconds": ("When the last fire drill began", ()),
    "monitor_last_drill_alarm_timestamp_seconds": ("When a drill last raised its alarm", ()),
}
"""Every gauge of the monitor, without its prefix: what it says, and its labels."""
COUNTERS = {
    "monitor_errors": ("Steps of the monitor that failed", "stage"),
    "monitor_series_dropped": ("Features that are watched and not exported", ""),
}


class Seen(msgspec.Struct, frozen=True):
    """One version as it was last looked at."""

    watched: WatchedVersion
    memory: VersionMemory


class Gauges(Collector):
    """What one scrape says. The monitor replaces `seen` and `drill` after each run."""

    def __init__(self, seconds_between_runs: float) -> None:
        self.seen: Sequence[Seen] = ()
        self.drill: Drill | None = None
        self.errors: Counter[str] = Counter()
        self._seconds_between_runs = seconds_between_runs

    def collect(self) -> Iterator[Metric]:
        """Make the families of one scrape."""
        families = {
            name: GaugeMetricFamily(f"{PREFIX}{name}", told, labels=labels)
            for name, (told, labels) in FAMILIES.items()
        }
        add = _Adder(families, time.time())
        add("monitor_seconds_between_runs", (), self._seconds_between_runs)
        if self.drill is not None:
            add("monitor_last_drill_timestamp_seconds", (), self.drill.started_at)
            add("monitor_last_drill_alarm_timestamp_seconds", (), self.drill.alarmed_at)
        dropped = sum(add.version(one) for one in list(self.seen))
        yield from (family for family in families.values() if family.samples)
        errors = CounterMetricFamily(
            f"{PREFIX}monitor_errors", COUNTERS["monitor_errors"][0], labels=["stage"]
        )
        for stage, count in sorted(self.errors.items()):
            errors.add_metric([stage], count)
        yield errors
        series = CounterMetricFamily(
            f"{PREFIX}monitor_series_dropped", COUNTERS["monitor_series_dropped"][0]
        )
        series.add_metric([], dropped)
        yield series


class _Adder:
    """Adds what is known of versions to the families of one scrape."""

    def __init__(self, families: dict[str, GaugeMetricFamily], now: float) -> None:
        self._families = families
        self._now = now

    def __call__(self, name: str, labels: Sequence[str], value: float | None) -> None:
        if value is not None:
            self._families[name].add_metric(labels, value)

    def version(self, seen: Seen) -> int:
        """Add one version; return how many of its features are left out."""
        watched, memory = seen.watched, seen.memory
        labels = (watched.model, watched.version)
        self("monitor_last_run_timestamp_seconds", labels, memory.last_run)
        left_out = self._drift(watched, memory, labels)
        if watched.is_drill:
            return left_out
        self("monitor_window_rows", labels, memory.open_rows)
        digest = watched.manifest.files.get("profile.json", "")[:12]
        self("monitor_profile_info", (*labels, digest, memory.profile), 1)
        self("model_trained_timestamp_seconds", labels, watched.trained_at)
        max_age = watched.settings.max_age_days * SECONDS_A_DAY
        self("model_max_age_seconds", labels, max_age)
        self._silence(watched, memory, labels)
        self._quality(watched, memory, labels)
        return left_out

    def _drift(
        self, watched: WatchedVersion, memory: VersionMemory, labels: tuple[str, str]
    ) -> int:
        exported = exported_features(watched)
        newest = memory.windows[-1] if memory.windows else None
        if newest is not None:
            for q, value in newest.scores.items():
                self("score", (*labels, q), value)
        told: dict[tuple[str, str], tuple[float, float]] = {}
        if newest is not None:
            told = {(f, s.kind): (s.effect, s.limit) for f, s in newest.shifts.items()}
        for alarm in self._alarms(memory):
            if alarm.feature in exported:
                is_open = int(alarm.closed_at is None)
                self("drift_alert", (*labels, alarm.feature, alarm.kind), is_open)
                told.setdefault((alarm.feature, alarm.kind), (alarm.effect, alarm.limit))
        for (feature, kind), (effect, limit) in told.items():
            if feature in exported:
                self("drift_effect", (*labels, feature, kind), effect)
                self("drift_noise_limit", (*labels, feature, kind), limit)
        self("joint_drift_effect", labels, memory.joint_change)
        return len(watched.contract.features) + 3 - len(exported)

    def _alarms(self, memory: VersionMemory) -> list[Alarm]:
        """Return the alarms to tell: of each feature and kind the newest."""
        earliest = self._now - SECONDS_AN_ENDED_ALARM_IS_TOLD
        told = [a for a in memory.alarms if a.closed_at is None or a.closed_at > earliest]
        return list({(alarm.feature, alarm.kind): alarm for alarm in told}.values())

    def _silence(
        self, watched: WatchedVersion, memory: VersionMemory, labels: tuple[str, str]
    ) -> None:
        began = memory.first_seen
        if began is None:
            return
        if watched.is_asked:
            age = self._now - (memory.last_row or began)
            self("traffic_age_seconds", labels, age)
            self("traffic_due_seconds", labels, traffic_due_seconds(watched, memory, self._now))
        plan, truth = watched.settings.ground_truth, memory.truth
        if plan.expected:
            age = self._now - max(truth.last_received or 0.0, began)
            self("ground_truth_age_seconds", labels, age)
            self("ground_truth_due_seconds", labels, plan.within_days * SECONDS_A_DAY)
            self("label_coverage_ratio", labels, truth.coverage)
            self("label_lag_seconds", labels, truth.lag_seconds)

    def _quality(
        self, watched: WatchedVersion, memory: VersionMemory, labels: tuple[str, str]
    ) -> None:
        for gate in watched.manifest.gates:
            self("performance_gate", (*labels, gate.metric), gate.floor)
        for point in memory.newest_quality():
            of = (*labels, point.metric, point.source)
            self("performance", of, point.value)
            self("performance_low", of, point.low)
            self("performance_high", of, point.high)
            self("performance_reference", of, watched.manifest.metrics.get(point.metric))
            self("performance_reference_limit", of, reference_limit(watched, point))


def exported_features(watched: WatchedVersion) -> set[str]:
    """Return the features that are exported, the output and `all` among them."""
    names = [*watched.settings.important_features, *watched.contract.feature_names]
    known = [name for name in dict.fromkeys(names) if name in watched.contract.feature_names]
    return {*known[:MOST_FEATURES], *watched.outputs, "all"}


def traffic_due_seconds(watched: WatchedVersion, memory: VersionMemory, now: float) -> float:
    """Return after how long without a row a version is silent.

    Half as long again as it was without one in the last four to eight weeks, or as twenty rows of
    its declared traffic take; at least an hour, at most three days; and a day until its rhythm is
    known.
    """
    young = now - (memory.first_seen or now) < DAYS_UNTIL_A_RHYTHM_IS_KNOWN * SECONDS_A_DAY
    expected = 20 * SECONDS_A_DAY / watched.settings.traffic.rows_per_day
    due = max(1.5 * max(memory.longest_gap, memory.gap_before), expected, SECONDS_OF_SILENCE)
    return min(max(due, SECONDS_A_DAY) if young else due, LONGEST_SILENCE)
