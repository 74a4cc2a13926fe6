"""Plots as SVG inside a page: no script, no network; colours come from the page's own style."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH = 720
SERIES = ("a", "b", "c")


def lines(
    series: Mapping[str, Sequence[float | None]],
    labels: Sequence[str],
    *,
    height: int = 120,
    band: Sequence[tuple[float, float] | None] = (),
    marks: Mapping[str, float] | None = None,
) -> str:
    """Draw values over time; `band` is an interval at each time, `marks` are horizontal lines."""
    marks = marks or {}
    known = [v for values in series.values() for v in values if v is not None]
    known += [end for ends in band if ends for end in ends] + list(marks.values())
    if not known:
        return ""
    low, high = _rounded(min(known), max(known))
    left, right, top, bottom = 54, 120, 8, 20
    count = max(len(labels), 2)

    def x(place: int) -> float:
        return left + place / (count - 1) * (WIDTH - left - right)

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (height - top - bottom)

    parts = [_grid(low, high, y, left, right)]
    if band:
        known_ends = [(x(i), ends) for i, ends in enumerate(band) if ends]
        upper = " ".join(f"{px:.1f},{y(high_end):.1f}" for px, (_, high_end) in known_ends)
        lower = " ".join(f"{px:.1f},{y(low_end):.1f}" for px, (low_end, _) in reversed(known_ends))
        parts.append(f'<polygon class="band" points="{upper} {lower}"/>')
    ends: list[tuple[float, str, str]] = []
    for (name, values), kind in zip(series.items(), SERIES, strict=False):
        points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values) if v is not None)
        parts.append(f'<polyline class="line {kind}" points="{points}"/>')
        last = [v for v in values if v is not None]
        if len(last) == 1:
            px, py = points.split(",")
            parts.append(f'<circle class="dot {kind}" cx="{px}" cy="{py}" r="3"/>')
        if last:
            ends.append((y(last[-1]), f"{name} {number(last[-1])}", f"label {kind}"))
    for name, value in marks.items():
        parts.append(
            f'<line class="mark" x1="{left}" x2="{WIDTH - right}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/>'
        )
        ends.append((y(value), f"{name} {number(value)}", "label"))
    parts.append(_end_labels(ends, WIDTH - right + 6))
    parts.append(_times(labels, x, height))
    return _svg(parts, height)


def heat_map(rows: Mapping[str, Sequence[float | None]], labels: Sequence[str]) -> str:
    """Draw how far each row is towards its limit (1 is there): a cell for each window."""
    left, cell, top = 150, 15, 4
    columns = max(len(labels), 1)
    width = (WIDTH - left - 10) / max(columns, 24)
    height = top + cell * len(rows) + 22
    paths: dict[int, list[str]] = {}
    parts = []
    for line, (name, values) in enumerate(rows.items()):
        y = top + line * cell
        shown = name if len(name) <= 20 else f"{name[:19]}…"
        parts.append(
            f'<text class="label" x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(shown)}'
            f"<title>{escape(name)}</title></text>"
        )
        for place, value in enumerate(values):
            if value is not None:
                step = 5 if value >= 1 else max(0, int(value * 5))
                at = f"M{left + place * width:.1f} {y}h{width - 1:.1f}v{cell - 2}h-{width - 1:.1f}z"
                paths.setdefault(step, []).append(at)
    parts += [
        f'<path class="heat{step}" d="{"".join(cells)}"/>' for step, cells in sorted(paths.items())
    ]
    parts.append(_times(labels, lambda place: left + place * width + width / 2, height))
    return _svg(parts, height)


def bars(was: Sequence[float], now: Sequence[float], names: Sequence[str]) -> str:
    """Draw shares in training beside shares of now, by bin or category."""
    height, bottom, top = 150, 34, 8
    most = max([*was, *now, 1e-9])
    step = (WIDTH - 20) / max(len(names), 1)
    parts = []
    for place, (before, after, name) in enumerate(zip(was, now, names, strict=True)):
        x = 10 + place * step
        for offset, value, kind in ((0.12, before, "then"), (0.5, after, "now")):
            tall = value / most * (height - top - bottom)
            parts.append(
                f'<rect class="{kind}" x="{x + offset * step:.1f}" '
                f'y="{height - bottom - tall:.1f}" width="{step * 0.36:.1f}" height="{tall:.1f}">'
                f"<title>{escape(name)}: {value:.1%}</title></rect>"
            )
        longest = max(4, int(step / 6.2))
        shown = name if len(name) <= longest else f"{name[: longest - 1]}…"
        parts.append(
            f'<text class="tick" x="{x + step / 2:.1f}" y="{height - bottom + 14}" '
            f'text-anchor="middle">{escape(shown)}</text>'
        )
    parts.append(
        f'<line class="axis" x1="10" x2="{WIDTH - 10}" y1="{height - bottom}" '
        f'y2="{height - bottom}"/>'
    )
    return _svg(parts, height)


def number(value: float) -> str:
    """Return a number with three digits that matter."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _rounded(low: float, high: float) -> tuple[float, float]:
    gap = (high - low) or abs(high) or 1.0
    return (0.0 if 0 <= low < gap else low - gap * 0.08), high + gap * 0.08


def _grid(low: float, high: float, y: Callable[[float], float], left: int, right: int) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = low + (high - low) * share
        parts.append(
            f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text class="tick" x="{left - 6}" y="{y(value) + 3:.1f}" '
            f'text-anchor="end">{number(value)}</text>'
        )
    return "".join(parts)


def _end_labels(ends: Sequence[tuple[float, str, str]], x: float) -> str:
    """Write names at the end of lines, one below the other where they would meet."""
    parts = []
    free = -100.0
    for y, text, kind in sorted(ends):
        free = max(y, free + 12)
        parts.append(f'<text class="{kind}" x="{x}" y="{free + 4:.1f}">{escape(text)}</text>')
    return "".join(parts)


def _times(labels: Sequence[str], x: Callable[[int], float], height: int) -> str:
    if not labels:
        return ""
    last = len(labels) - 1
    fit = (x(last) - x(0)) // (6 * len(labels[last]))
    wanted = (last, 0, last // 2)  # in a narrow plot the newest alone
    places = {place for count, place in enumerate(wanted, 1) if count <= max(fit, 1)}
    anchors = {0: "start", last: "end"} if len(places) > 1 else {}
    return "".join(
        f'<text class="tick" x="{x(place):.1f}" y="{height - 5}" '
        f'text-anchor="{anchors.get(place, "middle")}">{escape(labels[place])}</text>'
        for place in sorted(places)
    )


def _svg(parts: Sequence[str], height: float) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img">{"".join(parts)}</svg>'
