"""`handoff plan`: from the day of the launch back to who has to do what by when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from model_service.files import FileError, read_yaml, write_atomically
from model_service.handoff.items import TEAM_NAMES, Team
from model_service.repository import Repository
from model_service.settings import Settings

Kind = Literal["new-service", "new-model", "new-version"]
SCALE: dict[Kind, float] = {"new-service": 1.0, "new-model": 0.5, "new-version": 1.0}
"""A second model needs half the time of the first. With less time left, every date before the
launch moves closer to it in proportion."""
LEAD_DAYS: dict[Team, int] = {"data-science": 0, "backend": 5, "devops": 5, "product": 2}
"""Working days from hearing of a ticket to beginning with it, where the plan says nothing else."""
HEADER = """\
# Written by `handoff plan`, which keeps `lead_days`, `holidays`, and of each ticket `person` and
# `link` (its address in your tracker). `handoff check OPS-4` wants both for each.
"""


class PlanError(Exception):
    """No plan can be made or read; says what is missing."""


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ticket of the list that is planned from; times are relative to the launch."""

    id: int
    weeks: float
    team: Team
    days: int
    blocked_by: tuple[int, ...]
    title: str
    done_when: tuple[str, ...]
    page: str
    why: str
    kinds: tuple[Kind, ...] = ()
    never_dropped: bool = False


class Ticket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ticket of a plan. `days` are working days of work; `blocked_by` names other tickets, and
    `done_when` the items of the checklist that must pass."""

    id: int
    title: str
    team: Team
    person: str
    due: dt.date
    days: int
    why: str
    done_when: tuple[str, ...]
    blocked_by: tuple[int, ...]
    page: str
    link: str = ""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tickets of one deployment."""

    kind: Kind
    subject: str
    launch_date: dt.date
    made_on: dt.date
    lead_days: dict[Team, int]
    holidays: tuple[dt.date, ...]
    tickets: tuple[Ticket, ...]


class Impossible(msgspec.Struct, frozen=True):
    """A ticket that cannot be done by its day."""

    ticket: Ticket
    earliest: dt.date
    short: int
    never_dropped: bool

    def __str__(self) -> str:
        must = ", and it must not be left out" if self.never_dropped else ""
        return (
            f"{self.ticket.id} “{self.ticket.title}” ({TEAM_NAMES[self.ticket.team]}) is due on "
            f"{self.ticket.due} and cannot be done before {self.earliest}: {self.short} working "
            f"{'day' if self.short == 1 else 'days'} short{must}"
        )


class Calendar:
    """Working days: not Saturday, not Sunday, no holiday."""

    def __init__(self, holidays: Collection[dt.date]) -> None:
        self._holidays = frozenset(holidays)

    def is_working(self, day: dt.date) -> bool:
        """Whether people work on a day."""
        return day.weekday() < 5 and day not in self._holidays

    def on_or_before(self, day: dt.date) -> dt.date:
        """Return the day itself, or the last working day before it."""
        while not self.is_working(day):
            day -= dt.timedelta(days=1)
        return day

    def after(self, day: dt.date, working_days: int) -> dt.date:
        """Return the working day that is so many working days later."""
        while working_days > 0:
            day += dt.timedelta(days=1)
            working_days -= self.is_working(day)
        return day

    def between(self, first: dt.date, last: dt.date) -> int:
        """Return the working days after `first` until `last`."""
        days = (last - first).days
        return sum(self.is_working(first + dt.timedelta(days=n)) for n in range(1, days + 1))


@cache
def tasks_of(kind: Kind) -> tuple[Task, ...]:
    """Return the list that a deployment of this kind is planned from."""
    text = Path(__file__).with_name("tickets.yaml").read_text(encoding="utf-8")
    tasks = msgspec.convert(yaml.safe_load(text), tuple[Task, ...])
    return tuple(task for task in tasks if kind == "new-service" or kind in task.kinds)


def make_plan(
    settings: Settings,
    kind: Kind,
    subject: str,
    today: dt.date,
    *,
    lead_days: dict[Team, int] | None = None,
    holidays: Collection[dt.date] = (),
    before: Plan | None = None,
) -> Plan:
    """Return the tickets with their days; people and links of the plan `before` are kept.

    Raises:
        PlanError: the service has no launch date, or it is over.
    """
    launch = settings.launch_date
    if launch is None:
        raise PlanError(
            "service.yaml has no launch_date. Write the day others start to depend on it, such as "
            "launch_date: 2027-03-01."
        )
    if launch <= today:
        raise PlanError(f"launch_date in service.yaml is {launch}, and today is {today}.")
    calendar = Calendar(holidays)
    tasks = tasks_of(kind)
    leads = LEAD_DAYS | (before.lead_days if before else {}) | (lead_days or {})
    first = tasks[0]
    earliest = calendar.after(today, leads[first.team] + first.days)
    due = _due_days(tasks, kind, launch, earliest, calendar)
    known = {ticket.id: ticket for ticket in before.tickets} if before else {}
    kept = {task.id for task in tasks}
    tickets = [
        Ticket(
            id=task.id,
            title=task.title,
            team=task.team,
            person=(known[task.id].person if task.id in known else "")
            or person_of(settings, task.team),
            due=due[task.id],
            days=task.days,
            why=task.why,
            done_when=task.done_when,
            blocked_by=tuple(sorted(_blockers(task, kept, kind))),
            page=task.page,
            link=known[task.id].link if task.id in known else "",
        )
        for task in sorted(tasks, key=lambda task: (due[task.id], task.id))
    ]
    return Plan(kind, subject, launch, today, leads, tuple(sorted(holidays)), tuple(tickets))


def _blockers(task: Task, kept: Collection[int], kind: Kind) -> set[int]:
    """Return the tickets of the plan that block a task; those left out pass on what blocks them."""
    every = {task.id: task for task in tasks_of("new-service")}
    found: set[int] = set()
    for blocker in task.blocked_by:
        found |= {blocker} if blocker in kept else _blockers(every[blocker], kept, kind)
    return found


def _due_days(
    tasks: Sequence[Task], kind: Kind, launch: dt.date, earliest: dt.date, calendar: Calendar
) -> dict[int, dt.date]:
    """Return the day of each task; `earliest` is the first day on which one can be done."""
    longest = max(task.weeks for task in tasks) * 7 * SCALE[kind]
    squeezed = max(0.0, min(1.0, (launch - earliest).days / longest))
    return {
        task.id: calendar.on_or_before(
            launch - dt.timedelta(days=round(task.weeks * 7 * SCALE[kind] * squeezed))
            if task.weeks > 0
            else launch - dt.timedelta(weeks=task.weeks)
        )
        for task in tasks
    }


def impossible(plan: Plan) -> list[Impossible]:
    """Return the tickets that cannot be done in time: each begins when its team has had its lead
    time, everything that blocks it is done, and then takes its days."""
    calendar = Calendar(plan.holidays)
    never = {task.id for task in tasks_of("new-service") if task.never_dropped}
    done: dict[int, dt.date] = {}
    found = []
    by_id = {ticket.id: ticket for ticket in plan.tickets}
    for ticket in sorted(plan.tickets, key=lambda ticket: ticket.id):
        begins = calendar.after(plan.made_on, plan.lead_days.get(ticket.team, 0))
        begins = max(
            [begins, *(done[blocker] for blocker in ticket.blocked_by if blocker in by_id)]
        )
        done[ticket.id] = earliest = calendar.after(begins, ticket.days)
        if earliest > ticket.due:
            short = calendar.between(ticket.due, earliest)
            found.append(Impossible(ticket, earliest, short, ticket.id in never))
    return found


def possible_launch(plan: Plan, remake: Callable[[dt.date], Plan]) -> dt.date:
    """Return the first day on which everything would fit."""
    day = plan.launch_date
    while impossible(remake(day)):
        day += dt.timedelta(days=1)
    return day


def days_of(text: str) -> tuple[dt.date, ...]:
    """Read days and ranges such as `2026-12-24..2027-01-01,2027-04-02`.

    Raises:
        PlanError: one of them is no day.
    """
    days: list[dt.date] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("..")
        try:
            day, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last or first)
        except ValueError:
            raise PlanError(
                f"{part!r} is no day such as 2026-12-24, and no range of days."
            ) from None
        days += [day + dt.timedelta(days=n) for n in range((end - day).days + 1)]
    return tuple(sorted(set(days)))


def leads_of(stated: Sequence[str]) -> dict[Team, int]:
    """Read lead times such as `backend=10`.

    Raises:
        PlanError: the team is unknown, or it is no number of days.
    """
    leads: dict[Team, int] = {}
    for each in stated:
        name, _, days = each.partition("=")
        team = next((known for known in TEAM_NAMES if known == name), None)
        if team is None or not days.isdecimal():
            raise PlanError(
                f"{each!r} is no lead time such as backend=10 ({', '.join(TEAM_NAMES)})."
            )
        leads[team] = int(days)
    return leads


def person_of(settings: Settings, team: Team) -> str:
    """Return who is asked first in a team, as far as service.yaml says."""
    if team == "data-science":
        return settings.owners[0] if settings.owners else ""
    name: str = getattr(settings.contacts, team)
    return name


def plan_file(repository: Repository, kind: Kind, subject: str) -> Path:
    """Return where a plan is kept."""
    name = "plan.yaml" if kind == "new-service" else f"plan-{subject}.yaml"
    return repository.root / "handoff" / name


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: there is none, or it is not understood.
    """
    try:
        return msgspec.convert(read_yaml(path), Plan)
    except FileNotFoundError:
        raise PlanError(f"{path} is not there: `handoff plan` writes it.") from None
    except (FileError, msgspec.ValidationError) as error:
        raise PlanError(f"{path} is not understood: {error}") from None


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan for people to edit."""
    stated = msgspec.to_builtins(plan, builtin_types=[dt.date])
    text = yaml.safe_dump(stated, sort_keys=False, allow_unicode=True, width=110)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (HEADER + text).encode())
