"""The tickets of a plan as trackers import them."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path

from model_service.handoff.items import TEAM_NAMES
from model_service.handoff.plan import Plan, Ticket

EPIC_ID = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r")
HOW_TO = {
    "github": "Look it over, then run it in a clone: sh tickets.sh (needs gh, logged in). "
    "It can be run again: tickets that exist are left alone.",
    "gitlab": "Issues, then Import CSV. There is no undo: import a file of two rows first. "
    "Create the milestones T-8w to T+4w before, or GitLab leaves them out.",
    "jira": "System, External System Import, CSV (or a project's Import issues). "
    "The date format is yyyy-MM-dd; map Parent to the parent's Issue ID.",
    "linear": "Import issues, CSV. It takes no due date: each description begins with it.",
    "markdown": "Paste it where you like.",
}


def epic_title(plan: Plan) -> str:
    """Return the title of what all tickets belong to."""
    return f"{plan.subject} in production"


def title_of(plan: Plan, ticket: Ticket) -> str:
    """Return a ticket's title, which names what it is about."""
    return f"{plan.subject}: {ticket.title}"


def body_of(plan: Plan, ticket: Ticket, *, due: bool = True) -> str:
    """Return a ticket's text in Markdown."""
    titles = {other.id: other.title for other in plan.tickets}
    blocked = "; ".join(f"{number} ({titles[number]})" for number in ticket.blocked_by)
    done = ", ".join(ticket.done_when)
    lines = [
        f"Due {ticket.due}" if due else "",
        f"Why: {ticket.why}",
        f"Done when: `handoff check {done.replace(',', '')}` passes" if done else "",
        f"Blocked by: {blocked}" if blocked else "",
        f"Owner: {TEAM_NAMES[ticket.team]}" + (f", {ticket.person}" if ticket.person else ""),
        f"Estimate: {ticket.days} working {'day' if ticket.days == 1 else 'days'}",
        f"See: {ticket.page}",
    ]
    return "\n\n".join(line for line in lines if line)


def milestone_of(plan: Plan, ticket: Ticket) -> str:
    """Return the milestone of a ticket: the weeks that it is due before or after the launch."""
    weeks = round((plan.launch_date - ticket.due).days / 7)
    return f"T-{weeks}w" if weeks >= 0 else f"T+{-weeks}w"


def as_jira(plan: Plan, flavor: str = "cloud") -> str:
    """Return CSV for Jira: the epic first, then what belongs to it. Cloud links by `Parent`, Data
    Center (`dc`) by the name of the epic."""
    is_dc = flavor == "dc"
    above = ["Epic Name", "Epic Link"] if is_dc else ["Parent"]
    rows = [
        ["Issue Type", "Issue ID", *above, "Summary", "Description", "Due Date", *["Labels"] * 3]
    ]
    name = epic_title(plan)
    due = str(plan.launch_date)
    mine = [name, ""] if is_dc else [""]
    rows.append(["Epic", str(EPIC_ID), *mine, name, name, due, "handoff", "", ""])
    for ticket in plan.tickets:
        link = ["", name] if is_dc else [str(EPIC_ID)]
        labels = ["handoff", f"owner-{ticket.team}", f"handoff-{ticket.id}"]
        number = str(EPIC_ID + ticket.id)
        text = [title_of(plan, ticket), body_of(plan, ticket, due=False), str(ticket.due)]
        rows.append(["Task", number, *link, *text, *labels])
    return _csv(rows)


def as_gitlab(plan: Plan) -> str:
    """Return CSV for GitLab; what it has no column for is a quick action in the description."""
    rows = [["title", "description", "due_date"]]
    for ticket in plan.tickets:
        actions = [f'/label ~handoff ~"owner::{ticket.team}"']
        actions.append(f'/milestone %"{milestone_of(plan, ticket)}"')
        if ticket.person.startswith("@") and "/" not in ticket.person:
            actions.append(f"/assign {ticket.person}")
        actions.append(f"/estimate {ticket.days}d")
        text = body_of(plan, ticket, due=False) + "\n\n" + "\n".join(actions)
        rows.append([title_of(plan, ticket), text, str(ticket.due)])
    return _csv(rows)


def as_linear(plan: Plan) -> str:
    """Return CSV for Linear."""
    head = ["Title", "Description", "Priority", "Status", "Assignee"]
    rows = [[*head, "Created", "Completed", "Labels", "Estimate"]]
    for ticket in plan.tickets:
        labels = f"handoff, owner-{ticket.team}, {milestone_of(plan, ticket)}"
        text = [title_of(plan, ticket), body_of(plan, ticket)]
        priority = "Urgent" if "CON-3" in ticket.done_when else "High"
        rows.append([*text, priority, "Todo", "", "", "", labels, str(ticket.days)])
    return _csv(rows)


def as_github(plan: Plan) -> str:
    """Return a script for `gh` that creates milestones and issues; none is created twice."""
    lines = [Path(__file__).with_suffix(".sh").read_text(encoding="utf-8"), "label handoff"]
    lines += [f"label owner-{team}" for team in sorted({ticket.team for ticket in plan.tickets})]
    due: dict[str, str] = {}
    for ticket in plan.tickets:
        name = milestone_of(plan, ticket)
        due[name] = max(due.get(name, ""), str(ticket.due))
    lines += [f"milestone {shlex.quote(name)} {day}" for name, day in due.items()]
    for ticket in plan.tickets:
        marker = f"handoff:{plan.subject}:{ticket.id}"
        body = f"{body_of(plan, ticket)}\n\n<!-- {marker} -->"
        words = [marker, title_of(plan, ticket), milestone_of(plan, ticket), f"owner-{ticket.team}"]
        quoted = " ".join(shlex.quote(word) for word in words)
        lines.append(f"printf '%s\\n' {shlex.quote(body)} | ticket {quoted}")
    return "\n".join(lines) + "\n"


def as_markdown(plan: Plan) -> str:
    """Return the plan to be read."""
    lines = [f"# {epic_title(plan)}: {plan.launch_date}", ""]
    for ticket in plan.tickets:
        after = f"; after {', '.join(map(str, ticket.blocked_by))}" if ticket.blocked_by else ""
        done = f"; done when {', '.join(ticket.done_when)} pass" if ticket.done_when else ""
        who = TEAM_NAMES[ticket.team] + (f", {ticket.person}" if ticket.person else "")
        lines.append(f"- [ ] **{ticket.due}** {ticket.id}. {ticket.title} ({who}{after}{done})")
    return "\n".join(lines) + "\n"


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerows([[_cell(cell) for cell in row] for row in rows])
    return text.getvalue()


def _cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text
