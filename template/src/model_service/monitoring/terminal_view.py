"""What the monitor sees, for people on a server: a table that fits a terminal."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping, Sequence
from html import unescape

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from model_service.monitoring.drift_watch import DEPENDENCE
from model_service.monitoring.gauges import Seen
from model_service.monitoring.memory import Shift, recall
from model_service.monitoring.report_words import besides_drift
from model_service.monitoring.watched_versions import WatchedVersion, watched_versions
from model_service.prediction_log.store import PredictionStore
from model_service.registry.registry import Registry
from model_service.repository import Repository

WINDOWS_SHOWN = 16
MARKS = " ▁▂▃▄▅▆▇█"
Previews = Mapping[tuple[str, str], Mapping[str, Shift]]


def seen_versions(repository: Repository, registry: Registry, store: PredictionStore) -> list[Seen]:
    """Return every version as the monitor last saw it."""
    found = watched_versions(repository, registry, store, time.time())
    return [
        Seen(one, recall(store, one.model, one.version))
        for one in found
        if isinstance(one, WatchedVersion)
    ]


def view(seen: Sequence[Seen], previews: Previews, no_monitor: str = "") -> RenderableType:
    """Return the table, and below it what is not in order.

    `previews` are the shifts of windows that are still open; `no_monitor` says what to do where
    nobody watches.
    """
    now = time.time()
    # Whatever the width, a name is never cut: the other columns wrap before it does.
    model = Column("model", no_wrap=True, overflow="fold")
    columns = [Column(each, overflow="fold") for each in ("rows", "last row", "drift", "quality")]
    table = Table(model, *columns, box=box.SIMPLE_HEAD, pad_edge=False)
    troubles: list[Text] = []
    for one in seen:
        preview = previews.get((one.watched.model, one.watched.version), {})
        table.add_row(*_cells(one, now))
        name = f"{one.watched.model} {one.watched.version}"
        troubles += [
            Text.from_markup(f"  [bold]{escape(name)}[/]  {line}")
            for line in _troubles(one, preview, now)
        ]
    notes = [Text(told, style="dim") for one in seen for told in _notes(one)]
    if any(p.source == "estimated" for one in seen for p in one.memory.newest_quality()):
        notes.append(Text("  ~ is an estimate from the model's own scores.", style="dim"))
    last = max((one.memory.last_run for one in seen), default=0.0)
    return Group(table, *troubles, *notes, _when(last, no_monitor, now, bool(troubles)))


def _cells(seen: Seen, now: float) -> tuple[str, ...]:
    watched, memory = seen.watched, seen.memory
    windows = memory.windows[-WINDOWS_SHOWN:]
    rows = sum(window.rows for window in windows) + memory.open_rows
    strongest = [
        max((s.effect / s.limit for s in w.shifts.values() if s.limit), default=0) for w in windows
    ]
    worst = any(shift.alarms for window in windows[-1:] for shift in window.shifts.values())
    colour = "red" if memory.open_alarms or worst else "green"
    bars = "".join(MARKS[min(int(each * 4), 8)] for each in strongest)
    return (
        f"{escape(watched.model)} {watched.version}\n[dim]{', '.join(watched.roles)}[/]",
        f"{rows:,}",
        _ago(memory.last_row, now),
        f"[{colour}]{bars or 'no window yet'}[/]",
        _quality(seen),
    )


def _quality(seen: Seen) -> str:
    parts = []
    for point in seen.memory.newest_quality():
        mark = "~" if point.source == "estimated" else ""
        parts.append(f"{point.metric} {mark}{point.value:.3g}")
    return "\n".join(parts) or "not known yet"


def _troubles(seen: Seen, preview: Mapping[str, Shift], now: float) -> Iterator[str]:
    memory = seen.memory
    for alarm in memory.open_alarms:
        since = _ago(alarm.since, now)
        if alarm.kind == DEPENDENCE:
            for first, second, was, is_now in memory.broken[:1]:
                pair = f"[red]{escape(first)}[/] with [red]{escape(second)}[/]"
                yield f"{pair} since {since}: correlation {is_now:.2f}, in training {was:.2f}"
            continue
        yield (
            f"[red]{escape(alarm.feature)}[/] {alarm.kind.replace('_', ' ')} since {since}: "
            f"{alarm.effect:.3g}, chance explains {alarm.limit:.3g}"
        )
    for name, shift in preview.items():
        if shift.alarms and all(alarm.feature != name for alarm in memory.open_alarms):
            yield (
                f"[yellow]{escape(name)}[/] {shift.kind.replace('_', ' ')} in the window that is "
                f"still open: {shift.effect:.3g}, chance explains {shift.limit:.3g}"
            )
    for told in besides_drift(seen, now):
        yield unescape(told.replace("<b>", "[red]").replace("</b>", "[/]"))


def _notes(seen: Seen) -> Iterator[str]:
    names, left_out = seen.watched.contract.feature_names, seen.memory.joint_left_out
    if left_out:
        named = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        what = f"{named} and other features" if len(names) - len(left_out) > 1 else "features"
        yield (
            f"  {seen.watched.model} {seen.watched.version}: how {what} depend on each other is "
            "not watched: the prediction log does not hold them in clear "
            "(prediction_log.store_features; sensitive)."
        )


def _when(last: float, no_monitor: str, now: float, is_trouble: bool) -> Text:
    clock = dt.datetime.fromtimestamp(last, dt.UTC).strftime("%H:%M:%S UTC")
    told = f"Looked at {clock}, {_ago(last, now)} ago." if last else "Nothing was looked at yet."
    if no_monitor:
        return Text(f"{told} {no_monitor}", style="yellow")
    return Text(told if is_trouble else f"{told} Nothing to do.", style="dim")


def _ago(moment: float | None, now: float) -> str:
    return "never" if moment is None else _duration(now - moment)


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
