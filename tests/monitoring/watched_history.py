"""Days of answered rows in a prediction log, as the service writes them, but at once."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from model_service.drift.counts import Counter
from model_service.hooks import load_hooks
from model_service.monitoring.monitor import Monitor
from model_service.prediction_log.records import GroundTruth, LoggedCounts, LoggedRow
from model_service.registry.loaded_version import load_version
from model_service.registry.profile import read_profile
from model_service.registry.registry import Registry
from model_service.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model_service.repository import Repository

HOUR = 3600.0


class History:
    """Writes hours of rows and lets a monitor look after each; the last one ends about now."""

    def __init__(self, repository: Repository, model: str, version: str = "1") -> None:
        self.told: list[str] = []
        settings = read_settings(repository, {})
        hooks = load_hooks(repository.root, self.told.append)
        self.monitor = Monitor(settings, repository, hooks, self.told.append)
        self.store = self.monitor.store
        folder = Registry(repository.root / "registry").folder(model, version)
        self._loaded = load_version(folder)
        self._counter = Counter(self._loaded.contract, read_profile(folder))
        self._count = 0

    def write(self, rows: Sequence[dict[str, Any]], at: float, target: str | None = None) -> None:
        """Log rows as answered at a moment; their ground truth is `target` of each."""
        loaded = self._loaded
        names = loaded.contract.feature_names
        read = loaded.reader.read_rows([{n: r[n] for n in names if n in r} for r in rows])
        answers = loaded.predict(read.values)
        warnings = [
            [(w.feature, w.problem) for w in read.warnings.get(p, ())] for p in read.positions
        ]
        shares = None if answers.probabilities is None else answers.probabilities.tolist()
        told = SimpleNamespace(values=answers.values, probabilities=shares)
        counts = self._counter.count(read.values, warnings, told, at=at)
        logged, truths = [], []
        for place, values in enumerate(read.values):
            self._count += 1
            identity = f"history-{at}-{self._count}"
            logged.append(
                LoggedRow(
                    prediction_id=identity,
                    request_id=identity,
                    at=at + place / 1000,
                    model=loaded.model,
                    version=loaded.version,
                    alias="champion",
                    used=dict(zip(names, values, strict=True)),
                    value=answers.values[place],
                    probabilities=None
                    if shares is None
                    else dict(zip(loaded.contract.output.classes, shares[place], strict=True)),
                    seconds=0.002 + (place % 50) / 10_000,
                )
            )
            if target is not None:
                truth = rows[read.positions[place]][target]
                truths.append(
                    GroundTruth(value=truth, at=at, received_at=at + 60, prediction_id=identity)
                )
        self.store.append(logged)
        self.store.add_counts(
            [LoggedCounts(loaded.model, loaded.version, int(at // 60) * 60, "w", counts.encode())]
        )
        self.store.add_ground_truth(truths)

    def hours(
        self,
        count: int,
        rows_of: Callable[[int], Sequence[dict[str, Any]]],
        *,
        until: float | None = None,
        target: str | None = None,
    ) -> None:
        """Write an hour of rows after the other, and let the monitor look at the end of each."""
        end = until if until is not None else time.time()
        for hour in range(count):
            ends = end - (count - 1 - hour) * HOUR
            self.write(rows_of(hour), ends - HOUR / 2, target)
            self.monitor.run(ends, is_thorough=hour % 4 == 3)
