"""The report as one page that needs nothing else: for people who have no terminal."""

from __future__ import annotations

from html import escape
from pathlib import Path

from model_service.handoff.items import TEAM_NAMES
from model_service.handoff.outcome import Result
from model_service.handoff.report import MARKS, GroupScore, Report, by_group, due_of, score_line

HEADINGS = (
    "<tr><th></th><th>item</th><th>what must hold, and what was found</th>"
    "<th>owner</th><th>required from</th></tr>"
)


def as_html(report: Report) -> str:
    """Return the page: teams first, then every item, group by group."""
    parts = [
        f"<h1>Handoff of {escape(report.service)}</h1>",
        f'<p class="lead">{report.today}, level {report.level}: {escape(report.headline)}.</p>',
        '<div class="teams">',
    ]
    for digest in report.teams:
        name, _, rest = digest.line.partition(": ")
        kind = "open" if digest.to_do else "old" if digest.stale else ""
        parts.append(
            f'<div class="team {kind}"><b>{name}</b>{escape(rest)}<br>'
            f"<span>{digest.done} hold, {digest.skipped} not tried</span></div>"
        )
    parts.append("</div>")
    scores = {score.group: score for score in report.groups}
    for group, results in by_group(report):
        parts += _group(group, scores[group], results, report)
    parts.append(_test_score(report))
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Handoff of {escape(report.service)}</title><style>{style}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _group(group: str, score: GroupScore, results: list[Result], report: Report) -> list[str]:
    return [
        f"<h2>{escape(group)}: {score.passed} of {score.asked}</h2>",
        f'<div class="bar"><i style="width:{score.share:.0%}"></i></div>',
        f"<table>{HEADINGS}",
        *(_row(result, report) for result in results),
        "</table>",
    ]


def _row(result: Result, report: Report) -> str:
    required = " required" if result.required else ""
    return (
        f'<tr id="{result.item.id}"><td><span class="state" style="color:var(--{result.state})">'
        f'{MARKS[result.state]} {result.state}</span></td><td class="id">{result.item.id}</td>'
        f'<td class="what">{escape(result.item.title)}<small>{escape(result.line)}</small></td>'
        f'<td class="who">{TEAM_NAMES[result.team]}</td>'
        f'<td class="due{required}">{due_of(result, report.today)}</td></tr>'
    )


def _test_score(report: Report) -> str:
    rows = "".join(
        f'<tr><td class="id">{test.id}</td><td class="what">{escape(test.title)}</td>'
        f'<td class="id">{f"<a href=#{test.item}>{test.item}</a>" if test.item else "no item"}</td>'
        f"<td>{test.points:g}</td></tr>"
        for test in report.ml_test_score.tests
    )
    sections = ", ".join(f"{name} {got:g}" for name, got in report.ml_test_score.sections.items())
    return (
        f"<footer><p>{escape(score_line(report))}.</p><details><summary>The 28 tests of the "
        f"ML Test Score, and the items that prove them ({sections})</summary><table>"
        "<tr><th></th><th>test</th><th>item</th><th>points</th></tr>"
        f"{rows}</table></details></footer>"
    )
