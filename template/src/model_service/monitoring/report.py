"""The report: one HTML page that needs no network, made from what the monitor remembers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from model_service.drift.blind_spots import read_blind_spots
from model_service.drift.counts import Counts, merge
from model_service.monitoring.gauges import Seen
from model_service.monitoring.memory import Quality, Window
from model_service.monitoring.plots import bars, heat_map, lines, number
from model_service.monitoring.report_style import STYLE
from model_service.monitoring.report_words import CANNOT_SEE, findings, moment, next_steps
from model_service.registry.profile import FeatureCounts, FeatureProfile
from model_service.settings import Settings

WINDOWS_SHOWN = 96
WINDOWS_MERGED = 4
MOST_DISTRIBUTIONS = 12
MOST_BLIND_SPOTS = 60


def report_page(settings: Settings, seen: Sequence[Seen]) -> str:
    """Return the page about every version that is watched."""
    now = time.time()
    versions = [one for one in seen if not one.watched.is_drill]
    sections = "".join(_section(one, settings.name, now) for one in versions)
    troubled = len([one for one in versions if list(findings(one, now))])
    verdict = (
        f'<span class="bad">{troubled} of {len(versions)} need a decision</span>'
        if troubled
        else '<span class="good">nothing to do</span>'
    )
    last = max((one.memory.last_run for one in versions), default=0.0)
    looked = f"The monitor looked last at {moment(last)}." if last else "The monitor never ran."
    unseen = "".join(f"<li>{text}</li>" for text in CANNOT_SEE)
    title = escape(settings.title or settings.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>Models of {title}</title><style>{STYLE}</style></head><body><header>"
        f"<h1>Models of {title}: {verdict}</h1><p class='quiet'>Written {moment(now)}. {looked}"
        f"</p></header><main>{sections or '<section>No version is watched.</section>'}"
        f"<section><h2>What this monitor cannot see</h2><ul>{unseen}</ul></section>"
        "</main></body></html>\n"
    )


def _section(seen: Seen, command: str, now: float) -> str:
    watched, memory = seen.watched, seen.memory
    told = list(findings(seen, now))
    badge = (
        '<span class="badge bad">decide</span>' if told else '<span class="badge good">ok</span>'
    )
    if not memory.windows and not told:
        badge = '<span class="badge">nothing seen yet</span>'
    parts = [
        (
            f"<h2>{escape(watched.model)} version {escape(watched.version)} {badge}</h2>"
            f'<p class="quiet">{escape(", ".join(watched.roles))} · trained '
            f"{moment(watched.trained_at)} on {watched.manifest.rows.get('training', 0):,} rows</p>"
        ),
        _words(told, list(next_steps(seen, command))) if memory.windows or told else "",
        _tiles(seen),
        _traffic(memory.windows[-WINDOWS_SHOWN:]),
        _drift(seen),
        _distributions(seen),
        _quality(seen),
        _blind_spots(seen),
    ]
    return f"<section>{''.join(parts)}</section>"


def _words(told: Sequence[str], steps: Sequence[str]) -> str:
    if not told:
        return (
            '<div class="told good"><p>Nothing that is watched differs from training by more than '
            "chance and by more than what matters.</p></div>"
        )
    said = "".join(f"<p>{text}</p>" for text in told)
    todo = "".join(f"<li>{step}</li>" for step in steps)
    after = f"<h3>What to do next</h3><ul>{todo}</ul>" if todo else ""
    return f'<div class="told">{said}</div>{after}'


def _tiles(seen: Seen) -> str:
    windows = seen.memory.windows[-WINDOWS_SHOWN:]
    rows = sum(window.rows for window in windows)
    refused = sum(window.refused for window in windows)
    tiles = [
        (f"{rows:,}", f"rows in {len(windows)} window{'s' * (len(windows) != 1)}"),
        (f"{refused / rows:.2%}" if rows else "none", "of them refused by the contract"),
    ]
    if windows and "0.95" in windows[-1].seconds:
        tiles.append((f"{windows[-1].seconds['0.95'] * 1000:.1f} ms", "95% answered within"))
    for point in seen.memory.newest_quality():
        how = "measured" if point.source == "measured" else "estimated"
        tiles.append((number(point.value), f"{point.metric}, {how}"))
    shown = "".join(
        f'<div class="tile"><b>{value}</b><span class="quiet">{escape(label)}</span></div>'
        for value, label in tiles
    )
    return f'<div class="tiles">{shown}</div>'


def _traffic(windows: Sequence[Window]) -> str:
    if not windows:
        return "<p>No window is closed yet: it takes enough rows, or a day.</p>"
    labels = [moment(window.end)[:-4] for window in windows]
    rows = lines({"rows": [float(window.rows) for window in windows]}, labels)
    latency = lines(
        {
            f"p{float(q) * 100:g}": [
                window.seconds[q] * 1000 if q in window.seconds else None for window in windows
            ]
            for q in ("0.5", "0.95", "0.99")
        },
        labels,
    )
    kinds = ("missing", "unseen", "out_of_range")
    warned = {
        kind.replace("_", " "): [float(w.problems.get(kind, 0)) for w in windows]
        for kind in kinds
        if any(w.problems.get(kind) for w in windows)
    }
    warnings = (
        f"<h3>Values that were missing, unseen or out of range</h3>{lines(warned, labels)}"
        if warned
        else '<p class="quiet">No value was missing, unseen or out of range.</p>'
    )
    return f"<h3>Rows</h3>{rows}<h3>Latency, milliseconds</h3>{latency}{warnings}"


def _drift(seen: Seen) -> str:
    windows = seen.memory.windows[-WINDOWS_SHOWN:]
    if not windows:
        return ""
    names = [*seen.watched.contract.feature_names, *seen.watched.outputs]
    rows: dict[str, list[float | None]] = {}
    for name in names:
        shifts = [window.shifts.get(name) for window in windows]
        if any(shifts):
            rows[name] = [
                None if s is None else (1.0 if s.alarms else min(s.effect / s.limit, 0.99))
                for s in shifts
            ]
    labels = [moment(window.end)[:-4] for window in windows]
    return (
        '<h3>Drift <span class="quiet"><span class="key low"></span>as in training'
        '<span class="key near"></span>near its limit<span class="key over"></span>alarm</span>'
        f"</h3>{heat_map(rows, labels)}"
    )


def _distributions(seen: Seen) -> str:
    watched, memory = seen.watched, seen.memory
    recent = [w.counts for w in memory.windows[-WINDOWS_MERGED:] if w.counts is not None]
    if watched.profile is None or not recent:
        return ""
    now = merge(Counts.decode(counts) for counts in recent).features
    prediction, score = watched.outputs
    drifted = [a.feature for a in memory.open_alarms if a.feature in watched.profile.features]
    wanted = [*dict.fromkeys(drifted)][:MOST_DISTRIBUTIONS]
    profiles = {name: watched.profile.features[name] for name in wanted}
    profiles[prediction] = watched.profile.output
    if watched.profile.score is not None:
        profiles[score] = watched.profile.score
    plots = "".join(
        f"<h3>{escape(_title(name, prediction, score))}</h3>{_then_and_now(profile, now[name])}"
        for name, profile in profiles.items()
        if name in now and any(now[name].bins) and len(profile.counts.bins) > 1
    )
    key = '<span class="key then"></span>in training<span class="key now"></span>now'
    return f'<h3>Then and now <span class="quiet">{key}</span></h3>{plots}' if plots else ""


def _title(name: str, prediction: str, score: str) -> str:
    return {prediction: "The answers", score: "The score"}.get(name, name)


def _then_and_now(profile: FeatureProfile, now: FeatureCounts) -> str:
    was = profile.counts
    names = _bin_names(profile)
    before: list[float] = list(was.bins)
    after: list[float] = list(now.bins)
    if names and names[-1] == "others" and not before[-1] and not after[-1]:
        names, before, after = names[:-1], before[:-1], after[:-1]
    for kind in ("missing", "unseen", "out_of_range"):
        if getattr(was, kind) or getattr(now, kind):
            names.append(kind.replace("_", " "))
            before.append(getattr(was, kind))
            after.append(getattr(now, kind))
    return bars(_shares(before), _shares(after), names)


def _bin_names(profile: FeatureProfile) -> list[str]:
    if profile.measure == "text":
        return [*profile.categories, "others"]
    edges = [number(edge) for edge in profile.edges]
    if not edges:
        return ["all"]
    return [f"≤ {edges[0]}", *(f"≤ {edge}" for edge in edges[1:]), f"> {edges[-1]}"]


def _shares(counts: Sequence[float]) -> list[float]:
    whole = sum(counts) or 1
    return [count / whole for count in counts]


def _quality(seen: Seen) -> str:
    points = seen.memory.quality
    plan = seen.watched.settings.ground_truth
    if not points:
        why = (
            f"ground truth is expected within {plan.within_days} days"
            if plan.expected
            else "model.yaml expects no ground truth"
        )
        return f'<h3>Quality</h3><p class="quiet">Not known yet: {why}.</p>'
    floors = {gate.metric: gate.floor for gate in seen.watched.manifest.gates}
    parts = []
    for metric, source in dict.fromkeys((point.metric, point.source) for point in points):
        these = [p for p in points if (p.metric, p.source) == (metric, source)][-WINDOWS_SHOWN:]
        how = (
            "measured on ground truth"
            if source == "measured"
            else "an estimate from the model's own scores, before ground truth has come"
        )
        parts.append(
            f'<h3>{escape(metric)} <span class="quiet">{how}, of {these[-1].rows:,} rows</span>'
            f"</h3>{_quality_plot(seen, metric, these, floors.get(metric))}"
        )
    return "".join(parts)


def _quality_plot(seen: Seen, metric: str, points: Sequence[Quality], floor: float | None) -> str:
    marks = {}
    if metric in seen.watched.manifest.metrics:
        marks["in training"] = seen.watched.manifest.metrics[metric]
    if floor is not None:
        marks["gate"] = floor
    return lines(
        {"now": [point.value for point in points]},
        [moment(point.at)[:-4] for point in points],
        band=[(point.low, point.high) for point in points],
        marks=marks,
    )


def _blind_spots(seen: Seen) -> str:
    spots = read_blind_spots(seen.watched.folder)
    if spots is None:
        return ""
    lines_ = []
    for name, faults in list(spots.features.items())[:MOST_BLIND_SPOTS]:
        found = ", ".join(
            f"{escape(f.fault)} {'never' if f.size is None else f'from {f.size:g} {f.unit}'}"
            for f in faults
        )
        mark = ' <span class="badge bad">blind</span>' if name in spots.blind else ""
        lines_.append(f"<tr><td>{escape(name)}{mark}</td><td>{found}</td></tr>")
    alarms = spots.false_alarms
    return (
        f"<details><summary>Blind spots: what would be found within a day of "
        f"{spots.rows_per_day:,} rows</summary><table><tr><th>Feature<th>Found</tr>"
        f"{''.join(lines_)}</table><p class='quiet'>On held-out rows of training, watching raised "
        f"{alarms.alarms} alarms in {alarms.windows:,} windows of {alarms.rows:,} rows."
        "</p></details>"
    )
