"""What `handoff check` found, by team and by group, for people and for other programs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import msgspec

from model_service.handoff.items import TEAM_NAMES, Team
from model_service.handoff.ml_test_score import MlTestScore, ml_test_score
from model_service.handoff.outcome import Result

MARKS = {
    "pass": "✓",
    "fail": "✗",
    "stale": "↻",
    "skipped": "·",
    "waived": "◷",
    "broken": "!",
}


class TeamDigest(msgspec.Struct, frozen=True):
    """What one team has to do; `next_due` is the first day on which something open is required."""

    team: Team
    to_do: int
    stale: int
    waived: int
    skipped: int
    done: int
    next_due: dt.date | None
    today: dt.date

    @property
    def line(self) -> str:
        """The digest in a sentence, such as `Backend: 3 to do, 1 stale, next due in 4 days`."""
        name = TEAM_NAMES[self.team]
        counts = ((self.to_do, "to do"), (self.stale, "stale"), (self.waived, "waived"))
        words = [f"{count} {what}" for count, what in counts if count]
        if self.next_due is not None:
            words.append(_when((self.next_due - self.today).days))
        return f"{name}: {', '.join(words) or 'nothing to do'}"


class GroupScore(msgspec.Struct, frozen=True):
    """The share of a group's items that hold, between 0 and 1."""

    group: str
    passed: int
    asked: int

    @property
    def share(self) -> float:
        """How much of the group holds."""
        return self.passed / self.asked if self.asked else 1.0


class Report(msgspec.Struct, frozen=True):
    """All results. The score is the lowest of the groups: what is weakest decides."""

    service: str
    level: str
    today: dt.date
    launch_date: dt.date | None
    results: tuple[Result, ...]
    teams: tuple[TeamDigest, ...]
    groups: tuple[GroupScore, ...]
    ml_test_score: MlTestScore
    exit_code: int

    @property
    def score(self) -> GroupScore:
        """The group that decides the score."""
        return min(self.groups, key=lambda group: group.share)

    @property
    def headline(self) -> str:
        """How it stands, in one sentence."""
        unmet = sum(result.required and result.is_open for result in self.results)
        left = sum(result.required and result.state == "skipped" for result in self.results)
        still = sum(result.is_open for result in self.results) - unmet
        words = [f"{unmet} required now and not met" if unmet else "nothing that is due is open"]
        if still:
            words.append(f"{still} open and not due yet")
        if left:
            words.append(f"{left} required now and not tried")
        if self.launch_date is None:
            when = "no launch_date in service.yaml, so no date requires anything"
        else:
            days = (self.launch_date - self.today).days
            when = f"launch on {self.launch_date}, " + (
                f"in {_days(days)}" if days > 0 else "today" if not days else f"{_days(-days)} ago"
            )
        return f"{', '.join(words)} ({when})"


def report_of(
    service: str,
    level: str,
    today: dt.date,
    launch_date: dt.date | None,
    results: Sequence[Result],
    exit_code: int,
) -> Report:
    """Sum up results by team and by group."""
    teams = tuple(
        digest
        for team in TEAM_NAMES
        if (digest := _digest(team, [r for r in results if r.team == team], today))
    )
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.item.group, []).append(result)
    return Report(
        service,
        level,
        today,
        launch_date,
        tuple(results),
        teams,
        tuple(_score(name, inside) for name, inside in groups.items()),
        ml_test_score(results),
        exit_code,
    )


def _digest(team: Team, results: Sequence[Result], today: dt.date) -> TeamDigest | None:
    if not results:
        return None
    states = [result.state for result in results]
    dues = [result.due for result in results if result.is_open and result.due]
    return TeamDigest(
        team,
        states.count("fail") + states.count("broken"),
        states.count("stale"),
        states.count("waived"),
        states.count("skipped"),
        states.count("pass"),
        min(dues, default=None),
        today,
    )


def _score(group: str, results: Sequence[Result]) -> GroupScore:
    asked = [result for result in results if not result.is_beyond_level]
    return GroupScore(group, sum(result.state == "pass" for result in asked), len(asked))


def _when(days: int) -> str:
    if days < 0:
        return f"overdue by {_days(-days)}"
    return f"next due in {_days(days)}" if days else "next due today"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def as_json(report: Report) -> str:
    """Return everything for another program."""
    whole: dict[str, Any] = msgspec.to_builtins(report)
    whole["headline"], whole["score"] = report.headline, msgspec.to_builtins(report.score)
    for digest, built in zip(report.teams, whole["teams"], strict=True):
        built["line"] = digest.line
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def as_markdown(report: Report) -> str:
    """Return the digest for a chat or an issue: teams first, then what is not met, by group."""
    lines = [f"## Handoff of {report.service}", "", f"**{report.headline}**", ""]
    lines += [f"- {digest.line}" for digest in report.teams]
    for group, results in by_group(report):
        shown = [result for result in results if result.state not in ("pass", "skipped")]
        if shown:
            lines += [
                "",
                f"### {group}",
                "",
                "| | item | what is wrong | owner | due |",
                "|---|---|---|---|---|",
            ]
            lines += [
                f"| {MARKS[r.state]} {r.state} | **{r.item.id}** {_cell(r.item.title)} "
                f"| {_cell(r.line)} | {TEAM_NAMES[r.team]} | {due_of(r, report.today)} |"
                for r in shown
            ]
    lines += ["", score_line(report)]
    return "\n".join(lines) + "\n"


def as_junit(report: Report) -> str:
    """Return JUnit's XML: a case an item, a suite a group; what is not required never fails."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for group, results in by_group(report):
        failed = sum(result.required and result.is_open for result in results)
        lines.append(
            f'<testsuite name={quoteattr(group)} tests="{len(results)}" failures="{failed}">'
        )
        for result in results:
            name = quoteattr(f"{result.item.id} {result.item.title}")
            case = f"<testcase classname={quoteattr(group)} name={name} "
            case += f'time="{result.seconds}"'
            message = quoteattr(f"{result.state}: {result.line}")
            if result.required and result.is_open:
                lines.append(f"{case}><failure message={message}/></testcase>")
            elif result.state == "pass":
                lines.append(f"{case}/>")
            else:
                lines.append(f"{case}><skipped message={message}/></testcase>")
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def as_annotations(report: Report) -> str:
    """Return workflow commands of GitHub: an error for what is required, a notice a team."""
    lines = []
    for result in report.results:
        if result.is_open or (result.required and result.state == "skipped"):
            kind = "error" if result.required and result.is_open else "warning"
            owner = TEAM_NAMES[result.team]
            due = due_of(result, report.today)
            title = _escaped(f"{result.item.id} {result.item.title}", ":,")
            lines.append(f"::{kind} title={title}::{_escaped(f'{result.line} ({owner}, {due})')}")
    lines += [f"::notice title=Handoff::{_escaped(digest.line)}" for digest in report.teams]
    return "\n".join(lines) + "\n"


def by_group(report: Report) -> Iterator[tuple[str, list[Result]]]:
    """Yield each group with its results."""
    for group in dict.fromkeys(result.item.group for result in report.results):
        yield group, [result for result in report.results if result.item.group == group]


def score_line(report: Report) -> str:
    """Return the score in a sentence."""
    weakest = report.score
    return (
        f"Score {weakest.share:.0%}, that of its weakest part ({weakest.group}: "
        f"{weakest.passed} of {weakest.asked}); ML Test Score {report.ml_test_score.score:g} of 7"
    )


def due_of(result: Result, today: dt.date) -> str:
    """Return since when or from when an item is required."""
    if result.due is None:
        return f"T-{result.item.weeks} weeks" if result.item.weeks else "at launch"
    return f"{result.due} (now)" if result.due <= today else str(result.due)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _escaped(text: str, more: str = "") -> str:
    for letter in "%\r\n" + more:
        text = text.replace(letter, f"%{ord(letter):02X}")
    return text
