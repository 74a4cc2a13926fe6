"""`handoff plan` and `handoff tickets`: days, people, what blocks what, and what trackers read."""

from __future__ import annotations

import csv
import datetime as dt
import io
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from model_service.handoff import plan as planning
from model_service.handoff import tickets
from model_service.handoff.items import checklist
from model_service.handoff.plan import Calendar, Plan, PlanError, impossible, make_plan
from model_service.repository import Repository
from model_service.settings import Contacts, Settings
from tests.platform.commands.command import command

if TYPE_CHECKING:
    from pathlib import Path

TODAY = dt.date(2026, 9, 1)
LAUNCH = dt.date(2026, 12, 16)
SETTINGS = Settings(
    name="acme",
    owners=("@ann", "@bob"),
    launch_date=LAUNCH,
    contacts=Contacts("#on-call", "@backend-team", "@acme/devops", "Pat"),
)


def plan_for(launch: dt.date | None = LAUNCH, **options: Any) -> Plan:
    kind = options.pop("kind", "new-service")
    settings = Settings(
        name="acme", owners=SETTINGS.owners, launch_date=launch, contacts=SETTINGS.contacts
    )
    return make_plan(settings, kind, "acme", options.pop("today", TODAY), **options)


def test_every_item_is_what_some_ticket_waits_for() -> None:
    done_when = {id_ for ticket in plan_for().tickets for id_ in ticket.done_when}
    assert done_when == {item.id for item in checklist()}


def test_nothing_is_due_before_what_blocks_it() -> None:
    for kind in ("new-service", "new-model", "new-version"):
        made = plan_for(kind=kind)
        due = {ticket.id: ticket.due for ticket in made.tickets}
        for ticket in made.tickets:
            assert all(due[blocker] <= ticket.due for blocker in ticket.blocked_by), ticket
    assert [t.id for t in plan_for(kind="new-version").tickets] == [10, 13, 15, 16]
    # Ticket 13 waits for 10, and what a new model leaves out hands on what it waits for.
    by_id = {t.id: t for t in plan_for(kind="new-model").tickets}
    assert by_id[3].blocked_by == (2,)
    assert by_id[14].blocked_by == (10, 11)


def test_weekends_and_holidays_move_a_day_forward() -> None:
    saturday = plan_for(dt.date(2026, 12, 19))
    assert {t.due.weekday() for t in saturday.tickets} == {4}
    without = {t.id: t.due for t in plan_for().tickets}
    assert without[13] == dt.date(2026, 12, 2)
    holidays = planning.days_of("2026-12-01..2026-12-02, 2026-11-25")
    days = {t.id: t.due for t in plan_for(holidays=holidays).tickets}
    assert days[13] == dt.date(2026, 11, 30)
    assert days[10] == dt.date(2026, 11, 24)
    assert Calendar(holidays).after(dt.date(2026, 11, 27), 2) == dt.date(2026, 12, 3)


def test_with_enough_time_everything_fits() -> None:
    assert impossible(plan_for()) == []


def test_too_little_time_is_said_and_nothing_is_dropped() -> None:
    made = plan_for(TODAY + dt.timedelta(weeks=3))
    assert {ticket.id for ticket in made.tickets} == set(range(1, 17))
    late = {each.ticket.id: each for each in impossible(made)}
    assert {3, 7, 13} <= set(late)
    assert "must not be left out" in str(late[3])
    assert "must not be left out" not in str(late[11])
    day = planning.possible_launch(made, lambda launch: plan_for(launch))
    assert impossible(plan_for(day)) == []
    assert impossible(plan_for(day - dt.timedelta(days=1))) != []


def test_a_team_that_begins_late_needs_more_time() -> None:
    launch = TODAY + dt.timedelta(weeks=10)
    assert impossible(plan_for(launch, lead_days={"backend": 1})) == []
    late = impossible(plan_for(launch, lead_days={"backend": 40}))
    assert {each.ticket.team for each in late} >= {"backend"}


def test_without_a_day_of_launch_there_is_no_plan() -> None:
    with pytest.raises(PlanError, match="launch_date"):
        plan_for(None)
    with pytest.raises(PlanError, match="2026-08-31"):
        plan_for(dt.date(2026, 8, 31))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "acme"
    root.mkdir()
    stated = "name: acme\nowners: ['@ann', '@bob']\nlaunch_date: 2026-12-16\n"
    (root / "service.yaml").write_text(stated, encoding="utf-8")
    return Repository(root)


def test_a_plan_can_be_read_in_a_small_terminal(repository: Repository) -> None:
    told = command(repository, "handoff", "plan", "--today", str(TODAY), columns=80).stdout
    lines = [line.rstrip() for line in told.splitlines()]
    assert max(map(len, lines[: lines.index("", 3)])) <= 80
    # No id of an item, no day and no word of a title is torn apart or cut off.
    words = set(re.split(r"[\s,]+", told))
    for ticket in plan_for().tickets:
        assert {
            str(ticket.due),
            *ticket.done_when,
            *ticket.title.replace(",", " ").split(),
        } <= words
    assert len(lines) < 16 * 4


def test_people_and_links_survive_a_new_plan(repository: Repository) -> None:
    planned = ["handoff", "plan", "--today", str(TODAY), "--holidays", "2026-12-02"]
    assert command(repository, *planned).returncode == 0
    file = repository.root / "handoff/plan.yaml"
    kept = file.read_text(encoding="utf-8").replace("link: ''", "link: https://t/1", 1)
    kept = kept.replace("person: ''", "person: Kim", 1)
    file.write_text(kept, encoding="utf-8")
    ran = command(repository, *planned[:4], "--lead", "backend=3")
    assert ran.returncode == 0, ran.stderr
    again = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert again["tickets"][0]["link"] == "https://t/1"
    assert again["tickets"][0]["person"] == "Kim"
    assert again["lead_days"]["backend"] == 3
    assert again["holidays"] == [dt.date(2026, 12, 2)]
    late = command(repository, "handoff", "plan", "--today", "2026-12-01")
    assert late.returncode == 1
    assert "too little time" in late.stdout
    assert "everything fits for a launch on" in late.stdout


def rows_of(text: str) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(text)))
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows


def test_jira_reads_the_epic_first_and_then_its_tasks() -> None:
    made = plan_for()
    head, epic, *tasks = rows_of(tickets.as_jira(made))
    assert head[:6] == ["Issue Type", "Issue ID", "Parent", "Summary", "Description", "Due Date"]
    assert not [name for name in head if re.search(r"[^\w ]", name)]
    assert epic[0] == "Epic"
    assert [row[2] for row in tasks] == [epic[1]] * 16
    assert [row[5] for row in tasks] == [str(ticket.due) for ticket in made.tickets]
    assert len({row[1] for row in (epic, *tasks)}) == 17
    assert "Blocked by: 1 (Kick-off is held)" in tasks[1][4]


def test_data_center_links_by_the_name_of_the_epic() -> None:
    head, epic, *tasks = rows_of(tickets.as_jira(plan_for(), "dc"))
    assert "Parent" not in head
    name = epic[head.index("Epic Name")]
    assert {row[head.index("Epic Link")] for row in tasks} == {name}


def test_gitlab_reads_days_and_quick_actions() -> None:
    made = plan_for()
    head, *rows = rows_of(tickets.as_gitlab(made))
    assert head == ["title", "description", "due_date"]
    for row, ticket in zip(rows, made.tickets, strict=True):
        assert dt.date.fromisoformat(row[2]) == ticket.due
        actions = [line for line in row[1].splitlines() if line.startswith("/")]
        assert f'/label ~handoff ~"owner::{ticket.team}"' in actions
        assert ("/assign @backend-team" in actions) == (ticket.team == "backend")


def test_linear_reads_labels_and_priorities() -> None:
    head, *rows = rows_of(tickets.as_linear(plan_for()))
    assert head[:4] == ["Title", "Description", "Priority", "Status"]
    assert {row[2] for row in rows} == {"Urgent", "High"}
    assert all(row[head.index("Labels")].split(", ")[0] == "handoff" for row in rows)
    assert all(row[1].startswith("Due 20") for row in rows)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_is_a_formula(start: str) -> None:
    settings = Settings(name="acme", launch_date=LAUNCH)
    made = make_plan(settings, "new-model", f"{start}cmd|' /C calc'!A0", TODAY)
    for text in (tickets.as_jira(made), tickets.as_gitlab(made), tickets.as_linear(made)):
        cells = [cell for row in rows_of(text) for cell in row]
        assert any(cell.startswith(f"'{start}cmd") for cell in cells)
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]


GH = """\
#!/bin/sh
# A tracker with the commands of gh that the script uses: it keeps one file an issue.
case "$1 $2" in
  "issue create") shift 2; n=$(ls "$STORE" | wc -l); { printf '%s\\n' "$@"; cat; } > "$STORE/$n" ;;
  "issue list") for word in "$@"; do last=$found; found=$word; [ "$last" = --search ] && break; done
    marker=$(printf %s "$found" | cut -d'"' -f2)
    grep -lF -e "<!-- $marker -->" "$STORE"/* 2>/dev/null | xargs -rn1 basename ;;
  "api --paginate") cat "$STORE.milestones" 2>/dev/null || true ;;
  "api "*) echo "$4" | sed 's/title=//' >> "$STORE.milestones"; echo "$6" >> "$STORE.due" ;;
  "label create") ;;
  *) echo "no such command: $*" >&2; exit 1 ;;
esac
"""


def test_the_script_for_github_creates_each_ticket_once(tmp_path: Path) -> None:
    made = plan_for()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH, encoding="utf-8")
    (tmp_path / "bin/gh").chmod(0o755)
    store = tmp_path / "issues"
    store.mkdir()
    script = tmp_path / "tickets.sh"
    script.write_text(tickets.as_github(made), encoding="utf-8")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    for _ in range(2):
        ran = subprocess.run(
            ["sh", script],
            env={"PATH": path, "STORE": str(store)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        issues = [file.read_text(encoding="utf-8") for file in store.iterdir()]
        assert len(issues) == 16
    assert len(re.findall("there already", ran.stdout)) == 16
    for ticket in made.tickets:
        (issue,) = (text for text in issues if f"<!-- handoff:acme:{ticket.id} -->" in text)
        assert tickets.title_of(made, ticket) in issue
        assert f"Due {ticket.due}" in issue
        assert ticket.why in issue
    days = set((tmp_path / "issues.due").read_text(encoding="utf-8").split())
    assert days == {f"due_on={ticket.due}T17:00:00Z" for ticket in made.tickets}
