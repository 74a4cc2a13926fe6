"""Judges a closed window, and keeps the alarms that follow from it."""

from __future__ import annotations

from collections.abc import Sequence

from model_service.drift.counts import Counts
from model_service.drift.rule import MERGED_WINDOWS, TESTS_OF_A_FEATURE, Finding, Levels, examine
from model_service.monitoring.memory import Alarm, Shift, VersionMemory
from model_service.monitoring.watched_versions import WatchedVersion

HISTORY = max(MERGED_WINDOWS)
CALM_WINDOWS = 3
"""An alarm ends when so many windows in a row do not show it, so that it does not flap."""
DEPENDENCE = "dependence"
"""A kind that is looked at daily, and apart: see `look.Look.dependence`."""
DAYS_A_MONTH = 30
SECONDS_A_DAY = 86_400.0


def levels_for(
    watched: WatchedVersion, memory: VersionMemory, budget: float, window: tuple[int, float]
) -> Levels:
    """Return the levels that spend a budget of false alarms a month.

    A month has as many windows (of so many rows, and not shorter than so many seconds) as the
    declared traffic fills, or the traffic that came, if that is more.
    """
    rows, seconds = window
    recent = memory.windows[-HISTORY:]
    span = recent[-1].end - recent[0].start if recent else 0.0
    came = sum(each.rows for each in recent) / span * SECONDS_A_DAY if span else 0.0
    per_day = max(watched.settings.traffic.rows_per_day, came)
    windows = DAYS_A_MONTH * min(SECONDS_A_DAY / seconds, max(1.0, per_day / rows))
    tests = TESTS_OF_A_FEATURE * (len(watched.contract.features) + 1)
    return Levels.for_budget(budget, windows, tests)


def judge(
    watched: WatchedVersion,
    memory: VersionMemory,
    counts: Counts,
    levels: Levels,
    span: tuple[float, float],
) -> tuple[dict[str, Shift], list[Alarm]]:
    """Hold the newest window against the reference; return its shifts, and alarms that are new.

    A change that model.yaml expects is shown and raises no alarm.
    """
    assert watched.profile is not None
    history = [Counts.decode(w.counts) for w in memory.windows[-HISTORY + 1 :] if w.counts]
    history.append(counts)
    findings = examine(watched.profile, history, levels, output=watched.outputs)
    begun, now = span
    expected = watched.expected_at(now)
    told = [f for f in findings if f.alarms and f.feature not in expected]
    new = _raise(memory, told, begun)
    _calm(watched, memory, history, levels, expected, now)
    return _shifts(findings, expected), new


def _raise(memory: VersionMemory, told: Sequence[Finding], since: float) -> list[Alarm]:
    is_open = {(alarm.feature, alarm.kind): alarm for alarm in memory.open_alarms}
    new = []
    for finding in told:
        alarm = is_open.get((finding.feature, finding.kind))
        if alarm is None:
            alarm = Alarm(finding.feature, finding.kind, since, 0.0, 0.0, finding.windows)
            memory.alarms.append(alarm)
            new.append(alarm)
        alarm.effect, alarm.limit = finding.effect, finding.noise_limit
    return new


def _calm(
    watched: WatchedVersion,
    memory: VersionMemory,
    history: Sequence[Counts],
    levels: Levels,
    expected: frozenset[str],
    now: float,
) -> None:
    """Close alarms that the newest windows do not show any more.

    An alarm is looked for in as many windows as it was first seen in: the sixteen that hold a short
    and strong change would show it long after it has ended.
    """
    assert watched.profile is not None
    seen: dict[int, set[tuple[str, str]]] = {}
    for alarm in memory.open_alarms:
        if alarm.kind == DEPENDENCE:
            continue
        windows = max(alarm.windows, CALM_WINDOWS)
        if windows not in seen:
            found = examine(watched.profile, history[-windows:], levels, output=watched.outputs)
            seen[windows] = {(f.feature, f.kind) for f in found if f.alarms}
        is_seen = (alarm.feature, alarm.kind) in seen[windows]
        alarm.calm = 0 if is_seen else alarm.calm + 1
        if alarm.calm >= CALM_WINDOWS or alarm.feature in expected:
            alarm.closed_at = now


def _shifts(findings: Sequence[Finding], expected: frozenset[str]) -> dict[str, Shift]:
    """Return the strongest change of each feature: how far it is towards its own limit."""
    strongest: dict[str, Finding] = {}
    for finding in findings:
        before = strongest.get(finding.feature)
        if before is None or _rank(finding) > _rank(before):
            strongest[finding.feature] = finding
    return {
        name: Shift(
            f.kind, f.effect, f.noise_limit, f.alarms and name not in expected, name in expected
        )
        for name, f in strongest.items()
    }


def _rank(finding: Finding) -> tuple[bool, float]:
    return finding.alarms, finding.effect / finding.noise_limit
