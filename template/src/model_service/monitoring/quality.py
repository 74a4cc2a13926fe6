"""How good a version really is once it is known what happened, and an estimate before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from model_service.contract.contract import Output
from model_service.drift.quality import Measured, estimated, measured
from model_service.monitoring.memory import Quality, Source, Truth, VersionMemory
from model_service.monitoring.watched_versions import WatchedVersion
from model_service.prediction_log.records import LoggedRow
from model_service.prediction_log.store import PredictionStore
from model_service.registry.manifest import SMALLER_IS_BETTER

FEWEST_ROWS = 50
MOST_ROWS = 3_000
SECONDS_A_DAY = 86_400.0


def truth_of(store: PredictionStore, watched: WatchedVersion, now: float) -> Truth:
    """Return what is known of the ground truth of a version."""
    due = now - watched.settings.ground_truth.within_days * SECONDS_A_DAY
    rows, due_rows, due_known, lag, last = store.truth_seen(watched.model, watched.version, due)
    return Truth(rows, due_known / due_rows if due_rows else None, lag, last)


def quality_of(
    store: PredictionStore, watched: WatchedVersion, memory: VersionMemory, now: float
) -> list[Quality]:
    """Return the metrics of the version's gates: measured, and estimated where scores allow it."""
    return [*_measured(store, watched, memory, now), *_estimated(store, watched, memory, now)]


def _measured(
    store: PredictionStore, watched: WatchedVersion, memory: VersionMemory, now: float
) -> list[Quality]:
    if memory.truth.rows < FEWEST_ROWS:
        return []
    joined = store.joined(watched.model, watched.version, 0.0, now)
    newest = islice(joined, max(0, memory.truth.rows - MOST_ROWS), None)
    output = watched.contract.output
    known = [(row, truth) for row, truth in newest if _fits(output, truth)]
    if len(known) < FEWEST_ROWS:
        return []
    rows = [row for row, _ in known]
    truths = [truth for _, truth in known]
    values = [row.value for row in rows]
    found = measured(watched.contract, values, _shares(output, rows), truths)
    return _points(watched, found, "measured", now)


def _estimated(
    store: PredictionStore, watched: WatchedVersion, memory: VersionMemory, now: float
) -> list[Quality]:
    calibration = watched.profile.calibration if watched.profile else None
    since = memory.windows[-1].start if memory.windows else now - SECONDS_A_DAY
    if calibration is None:
        return []
    rows = list(store.rows(watched.model, watched.version, since, now, limit=MOST_ROWS))
    shares = _shares(watched.contract.output, rows)
    if len(rows) < FEWEST_ROWS or shares is None:
        return []
    found = estimated(watched.contract, calibration, [row.value for row in rows], shares)
    return _points(watched, found, "estimated", now)


def _points(
    watched: WatchedVersion, found: Mapping[str, Measured], source: Source, now: float
) -> list[Quality]:
    wanted = {gate.metric for gate in watched.manifest.gates}
    return [
        Quality(now, metric, source, m.value, m.low, m.high, m.rows)
        for metric, m in found.items()
        if metric in wanted and math.isfinite(m.low)
    ]


def reference_limit(watched: WatchedVersion, point: Quality) -> float | None:
    """Return the worst end of the interval that training had for a metric.

    Training measured on held-out rows, whose luck counts as well: an interval shrinks with the root
    of the rows.
    """
    trained = watched.manifest.metrics.get(point.metric)
    held_out = watched.manifest.rows.get("held_out", 0)
    if trained is None or not held_out:
        return None
    worse = 1 if point.metric in SMALLER_IS_BETTER else -1
    return trained + worse * (point.high - point.low) / 2 * math.sqrt(point.rows / held_out)


def _fits(output: Output, truth: Any) -> bool:
    if output.type == "class":
        return truth in output.classes
    if output.type == "vector":
        return isinstance(truth, list) and len(truth) == output.length
    return isinstance(truth, int | float) and not isinstance(truth, bool)


def _shares(output: Output, rows: Sequence[LoggedRow]) -> list[list[float]] | None:
    found = [
        [row.probabilities[name] for name in output.classes] for row in rows if row.probabilities
    ]
    return found if output.classes and len(found) == len(rows) else None
