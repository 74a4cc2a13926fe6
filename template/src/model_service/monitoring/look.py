"""One look at one version: closes its window if it is full, judges it, and remembers."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from model_service.drift.counts import Counts
from model_service.drift.dependence import FEWEST_ROWS, MATERIAL, Broken, broken, read_dependence
from model_service.drift.rule import Levels
from model_service.monitoring.drift_watch import DEPENDENCE, HISTORY, judge, levels_for
from model_service.monitoring.memory import Alarm, Shift, VersionMemory, Window
from model_service.monitoring.quality import MOST_ROWS, quality_of, truth_of
from model_service.monitoring.watched_versions import WatchedVersion
from model_service.monitoring.windows import close_window, is_full, pending_counts
from model_service.prediction_log.records import LoggedRow
from model_service.prediction_log.store import PredictionStore
from model_service.settings import Monitoring

SECONDS_A_DAY = 86_400.0
ALL_FEATURES = "all"
RUNS_BETWEEN_QUALITY = 10
FEWEST_DRILL_ROWS = 100
DAYS_OF_FEW_ROWS = 7
DAYS_OF_A_GAP = 28
"""A silence is taken for usual for once or twice so long, and an outage not for ever."""


class Look:
    """One look at a version. Every step may fail without the others."""

    def __init__(
        self,
        store: PredictionStore,
        watched: WatchedVersion,
        memory: VersionMemory,
        settings: Monitoring,
        budget: float,
        now: float,
    ) -> None:
        self._store = store
        self._watched = watched
        self._memory = memory
        self._settings = settings
        self._budget = budget
        self._now = now
        self.new_alarms: list[Alarm] = []

    def traffic(self) -> None:
        """See when rows came, and how long they stayed away in the last weeks."""
        memory, now = self._memory, self._now
        if now - memory.gaps_since > DAYS_OF_A_GAP * SECONDS_A_DAY:
            memory.gap_before, memory.longest_gap = memory.longest_gap, 0.0
            memory.gaps_since = now
        after = math.nextafter(memory.last_row or 0.0, math.inf)
        seen = [
            one
            for one in self._store.activity(after, now + 1)
            if (one.model, one.version) == (memory.model, memory.version)
        ]
        for one in seen:
            if memory.last_row is not None:
                memory.longest_gap = max(memory.longest_gap, one.first - memory.last_row)
            memory.first_seen = memory.first_seen or one.first
            memory.last_row = one.last
        if self._watched.is_asked and memory.first_seen is None:
            memory.first_seen = now  # from now on somebody should ask it

    def drift(self) -> None:
        """Close the window if it is full, and hold it against the reference profile."""
        watched, memory, now = self._watched, self._memory, self._now
        memory.profile = watched.profile_state
        if watched.profile is None:
            return
        counts = pending_counts(self._store, memory, now)
        levels = self._levels()
        if watched.is_drill:
            # A drill is judged at once, and again while its rows arrive.
            if counts.rows >= FEWEST_DRILL_ROWS:
                _, self.new_alarms = judge(watched, memory, counts, levels, (now, now))
            return
        if not is_full(memory, counts, now, self._settings):
            return
        span = close_window(self._store, memory, counts, now)
        shifts, self.new_alarms = judge(watched, memory, counts, levels, span)
        memory.windows.append(self._window(span, counts, shifts))
        memory.forget_the_oldest(HISTORY)

    def preview(self) -> dict[str, Shift]:
        """Return what the open window would show if it were closed now; nothing is remembered."""
        if self._watched.profile is None:
            return {}
        memory = copy.deepcopy(self._memory)
        counts = pending_counts(self._store, memory, self._now)
        if not counts.rows:
            return {}
        span = (memory.open_since or self._now, self._now)
        return judge(self._watched, memory, counts, self._levels(), span)[0]

    def dependence(self) -> None:
        """Once a day: whether features still depend on each other as in training.

        Where a day has too few rows, those of a week are asked.
        """
        watched, memory, now = self._watched, self._memory, self._now
        reference = read_dependence(watched.folder)
        due = now - memory.joint_at >= SECONDS_A_DAY and not watched.is_drill
        if watched.profile is None or reference is None or not due:
            return
        span = SECONDS_A_DAY
        rows = self._logged(span)
        if len(rows) < FEWEST_ROWS:
            span = DAYS_OF_FEW_ROWS * SECONDS_A_DAY
            rows = self._logged(span)
        if not rows:
            return
        used = [row.used for row in rows if row.used is not None]
        # A hash depends on nothing, and what is not stored is not known.
        held = {f.name for f in watched.contract.features if not f.sensitive}
        held &= {name for row in used[-1:] for name in row}
        names = watched.contract.feature_names
        memory.joint_left_out = tuple(name for name in names if name not in held)
        values = [tuple(row.get(n) if n in held else None for n in names) for row in used]
        level = self._budget / 30 / 2
        drifting = {alarm.feature for alarm in memory.open_alarms}
        found = [
            pair
            for pair in broken(watched.contract, watched.profile, reference, values, level)
            if not drifting & {pair.first, pair.second}  # that one explains it
        ]
        memory.joint_at = now
        memory.joint_change = max((abs(pair.now - pair.was) for pair in found), default=0.0)
        self._keep_dependence(found, span)

    def quality(self) -> None:
        """See what ground truth says, now and then."""
        memory = self._memory
        due = memory.quality_at + RUNS_BETWEEN_QUALITY * self._settings.seconds_between_runs
        if self._now < due or self._watched.is_drill:
            return
        memory.quality_at = self._now
        memory.truth = truth_of(self._store, self._watched, self._now)
        memory.quality += quality_of(self._store, self._watched, memory, self._now)

    def _levels(self) -> Levels:
        window = (self._settings.window_rows, self._settings.window_seconds)
        return levels_for(self._watched, self._memory, self._budget, window)

    def _window(
        self, span: tuple[float, float], counts: Counts, shifts: dict[str, Shift]
    ) -> Window:
        memory = self._memory
        rows = list(self._store.rows(memory.model, memory.version, *span, limit=MOST_ROWS))
        problems: Counter[str] = Counter()
        for one in counts.features.values():
            problems.update(missing=one.missing, unseen=one.unseen, out_of_range=one.out_of_range)
        return Window(
            *span,
            counts.rows,
            counts.refused,
            {name: rows for name, rows in problems.items() if rows},
            shifts,
            _quantiles([row.seconds for row in rows], (0.5, 0.95, 0.99)),
            _quantiles(_scores(rows), (0.05, 0.5, 0.95)),
            counts.encode(),
        )

    def _logged(self, seconds: float) -> list[LoggedRow]:
        model, version = self._memory.model, self._memory.version
        return list(self._store.rows(model, version, self._now - seconds, self._now, MOST_ROWS))

    def _keep_dependence(self, found: Sequence[Broken], span: float) -> None:
        memory = self._memory
        is_open = {a.feature: a for a in memory.open_alarms if a.kind == DEPENDENCE}
        for pair in found[:1]:
            change = abs(pair.now - pair.was)
            memory.broken = tuple((one.first, one.second, one.was, one.now) for one in found[:5])
            if ALL_FEATURES in is_open:
                is_open[ALL_FEATURES].effect = change
                return
            alarm = Alarm(ALL_FEATURES, DEPENDENCE, self._now - span, change, MATERIAL)
            memory.alarms.append(alarm)
            self.new_alarms.append(alarm)
        if not found:
            for alarm in is_open.values():
                alarm.closed_at = self._now


def _quantiles(numbers: Sequence[float], shares: tuple[float, ...]) -> dict[str, float]:
    if not numbers:
        return {}
    values = np.asarray(numbers, dtype=np.float64)
    found = {f"{share:g}": float(np.quantile(values, share)) for share in shares}
    return found | {"mean": float(values.mean())}


def _scores(rows: Sequence[LoggedRow]) -> list[float]:
    """Return what is plotted of answers: the number, or the probability that was answered by."""
    scores = []
    for row in rows:
        if row.probabilities:
            shares = list(row.probabilities.values())
            scores.append(shares[1] if len(shares) == 2 else max(shares))
        elif isinstance(row.value, int | float) and not isinstance(row.value, bool):
            scores.append(float(row.value))
    return scores
