"""How good a version really is, once it is known what happened."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from model_service.contract.contract import Contract
from model_service.monitoring.memory import Quality, Truth, VersionMemory
from model_service.monitoring.watched_versions import WatchedVersion
from model_service.prediction_log.records import LoggedRow
from model_service.prediction_log.store import PredictionStore
from model_service.registry.metrics import Judged

FEWEST_ROWS = 50
MOST_ROWS = 3_000
RESAMPLES = 200
OUTSIDE = 0.005
"""On each side of an interval: of a hundred metrics that did not change, one lies outside."""
SECONDS_A_DAY = 86_400.0


def truth_of(store: PredictionStore, watched: WatchedVersion, now: float) -> Truth:
    """Return what is known of the ground truth of a version."""
    due = now - watched.settings.ground_truth.within_days * SECONDS_A_DAY
    rows, due_rows, due_known, lag, last = store.truth_seen(watched.model, watched.version, due)
    return Truth(rows, due_known / due_rows if due_rows else None, lag, last)


def measured(
    store: PredictionStore, watched: WatchedVersion, memory: VersionMemory, now: float
) -> list[Quality]:
    """Return the metrics of the version's gates over its newest answers that have ground truth."""
    if memory.truth.rows < FEWEST_ROWS:
        return []
    since = (memory.first_seen or now) - SECONDS_A_DAY
    joined = store.joined(watched.model, watched.version, since, now)
    skipped = max(0, memory.truth.rows - MOST_ROWS)
    judged = judged_rows(watched.contract, list(islice(joined, skipped, None)))
    if len(judged) < FEWEST_ROWS:
        return []
    whole = judged.metrics()
    chance = np.random.default_rng(0)
    size = len(judged)
    samples = [judged.at(chance.integers(0, size, size)).metrics() for _ in range(RESAMPLES)]
    found = []
    for metric in metrics_watched(watched):
        known = [sample[metric] for sample in samples if metric in sample]
        if metric in whole and known:
            low, high = np.quantile(known, (OUTSIDE, 1 - OUTSIDE))
            trained = watched.manifest.metrics.get(metric)
            value = whole[metric]
            found.append(
                Quality(now, metric, "measured", value, float(low), float(high), size, trained)
            )
    return found


def metrics_watched(watched: WatchedVersion) -> list[str]:
    """Return the metrics of the gates of a version."""
    return list(dict.fromkeys(gate.metric for gate in watched.manifest.gates))


def judged_rows(contract: Contract, joined: Sequence[tuple[LoggedRow, Any]]) -> Judged:
    """Return rows beside their ground truth; a truth that the output cannot be is left out."""
    output = contract.output
    if output.type != "class":
        numbers = [(row.value, truth) for row, truth in joined if _is_number(truth)]
        return Judged([value for value, _ in numbers], [truth for _, truth in numbers])
    known = [(row, truth) for row, truth in joined if truth in output.classes]
    shares = None
    if known and all(row.probabilities for row, _ in known):
        shares = np.array([[row.probabilities[c] for c in output.classes] for row, _ in known])  # type: ignore[index]
    answers = [row.value for row, _ in known]
    return Judged(answers, [truth for _, truth in known], output.classes, shares)


def _is_number(truth: Any) -> bool:
    return isinstance(truth, int | float | list) and not isinstance(truth, bool)
