"""What the report says in words: what changed, since when, and what to do next."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from html import escape

from model_service.monitoring.gauges import Seen, traffic_due_seconds
from model_service.monitoring.memory import Alarm
from model_service.monitoring.plots import number
from model_service.monitoring.quality import reference_limit
from model_service.registry.manifest import SMALLER_IS_BETTER

SECONDS_A_DAY = 86_400.0
CANNOT_SEE = (
    "Concept drift: that the same row now means something else shows only in measured quality.",
    "A feature that is left out of the contract is not watched.",
    "How a feature depends on others, where the prediction log holds no clear value of it.",
    "A change below the noise limit of a feature: the busier the model, the smaller that is.",
    "Rows that were never sent, unless the others look different without them.",
    "What one customer gets: everything here is about many rows together.",
)


def moment(seconds: float) -> str:
    """Return a time as people write it, in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%d %b %Y %H:%M UTC")


def findings(seen: Seen, now: float) -> Iterator[str]:
    """Yield a sentence as HTML for everything that is not in order."""
    yield from (_of_alarm(seen, alarm) for alarm in seen.memory.open_alarms)
    yield from besides_drift(seen, now)


def besides_drift(seen: Seen, now: float) -> Iterator[str]:
    """Yield what is not in order of quality, traffic, ground truth and age."""
    yield from _of_quality(seen)
    yield from _of_silence(seen, now)


def _of_alarm(seen: Seen, alarm: Alarm) -> str:
    name = f"<b>{escape(alarm.feature)}</b>"
    since = f"since {moment(alarm.since)}"
    if alarm.kind == "dependence":
        pairs = ", ".join(
            f"{escape(a)} with {escape(b)} (correlation {was:.2f}, now {now:.2f})"
            for a, b, was, now in seen.memory.broken
        )
        return f"Features depend on each other otherwise than in training, {since}: {pairs}."
    if alarm.kind == "distribution":
        return (
            f"{name} is distributed otherwise than in training, {since}. Its change (PSI) is "
            f"{number(alarm.effect)} beyond noise; up to {number(alarm.limit)} may be chance."
        )
    words = {
        "missing": "is missing",
        "unseen": "has values that training never saw",
        "out_of_range": "is out of range",
    }
    return (
        f"{name} {words.get(alarm.kind, alarm.kind)} in {alarm.effect:.1%} more of the rows than "
        f"in training, {since}."
    )


def _of_quality(seen: Seen) -> Iterator[str]:
    floors = {gate.metric: gate.floor for gate in seen.watched.manifest.gates}
    for point in seen.memory.newest_quality():
        smaller = point.metric in SMALLER_IS_BETTER
        best = point.low if smaller else point.high
        told = f"{escape(point.metric)} is {number(point.value)}, at best {number(best)}"
        how = "Measured on ground truth" if point.source == "measured" else "By an estimate"
        floor, limit = floors.get(point.metric), reference_limit(seen.watched, point)
        if point.source == "measured" and floor is not None and _is_worse(best, floor, smaller):
            yield f"{how}, {told}: <b>worse than its gate</b>, which is {number(floor)}."
        elif limit is not None and _is_worse(best, limit, smaller):
            trained = seen.watched.manifest.metrics[point.metric]
            yield f"{how}, {told}: worse than in training, where it was {number(trained)}."


def _is_worse(value: float, limit: float, smaller: bool) -> bool:
    return value > limit if smaller else value < limit


def _of_silence(seen: Seen, now: float) -> Iterator[str]:
    watched, memory = seen.watched, seen.memory
    if memory.profile != "ok":
        yield f"Its reference profile is {memory.profile}, so drift is not watched: train again."
    began = memory.first_seen
    if began is not None:
        silent = now - (memory.last_row or began)
        if watched.is_asked and silent > traffic_due_seconds(watched, memory, now):
            yield f"<b>No traffic</b> for {silent / 3600:.0f} hours."
        plan = watched.settings.ground_truth
        waited = (now - max(memory.truth.last_received or 0.0, began)) / SECONDS_A_DAY
        if plan.expected and waited > plan.within_days:
            yield f"<b>No ground truth</b> for {waited:.0f} days; {plan.within_days} are declared."
    age = (now - watched.trained_at) / SECONDS_A_DAY
    if age > watched.settings.max_age_days:
        most = watched.settings.max_age_days
        yield f"It was trained <b>{age:.0f} days ago</b>; {most} are allowed."


def next_steps(seen: Seen, command: str) -> Iterator[str]:
    """Yield what to do about alarms, or quality alone, as HTML, in the order to think of it."""
    watched = seen.watched
    alarms = [a for a in seen.memory.open_alarms if a.kind != "dependence"]
    since = [alarm.since for alarm in alarms or seen.memory.open_alarms]
    if not since and list(_of_quality(seen)):
        since = [window.start for window in seen.memory.windows[:1]]
    if not since:
        return
    features = {f.name: f for f in watched.contract.features}
    of = [features[alarm.feature].source for alarm in alarms if alarm.feature in features]
    sources = {f"{source.system} ({source.owner})" for source in of if source is not None}
    asked = f" Ask: {escape(', '.join(sorted(sources)))}." if sources else ""
    model, version = escape(watched.model), escape(watched.version.partition("-")[0])
    day = moment_day(min(since))
    if seen.memory.open_alarms:
        yield f"<b>Is the source broken?</b> Then repair it, and the alarm ends by itself.{asked}"
    yield (
        "<b>Did the world change?</b> Train on rows from then on, see what would be answered "
        f"otherwise, and promote: <pre>{command} train {model} --since {day}\n"
        f"{command} compare {model} {version} NEW --logged 1000\n"
        f"{command} promote {model} NEW</pre>"
    )
    lines = "\n".join(
        f'  - {{feature: {feature}, from: {day}, until: YYYY-MM-DD, reason: "…"}}'
        for feature in dict.fromkeys(alarm.feature for alarm in alarms)
    )
    if lines:
        yield (
            "<b>Was it expected?</b> Say so in <code>models/"
            f"{model}/model.yaml</code>, with an end: <pre>expected_changes:\n{escape(lines)}</pre>"
        )


def moment_day(seconds: float) -> str:
    """Return the day of a moment as YYYY-MM-DD, in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()
