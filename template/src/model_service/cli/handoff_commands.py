"""`handoff …`: what other teams need to know and to sign, and whether it holds."""

from __future__ import annotations

import datetime as dt
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from model_service.cli import handoff_files_commands
from model_service.cli.terminal import (
    NOT_IN_ORDER,
    command_line,
    literal,
    say,
    say_plainly,
    say_table,
    state,
)
from model_service.handoff.items import TEAM_NAMES

if TYPE_CHECKING:
    from model_service.handoff.items import Item
    from model_service.handoff.plan import Ticket
    from model_service.handoff.report import Report
    from model_service.repository import Repository

Format = Literal["terminal", "md", "html", "json", "junit", "github"]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]…", help="Such as CON-3; all if none.")
]
Today = Annotated[
    dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Check as if it were this day.")
]
STYLES = {
    "pass": "green",
    "fail": "bold red",
    "stale": "yellow",
    "skipped": "dim",
    "waived": "cyan",
    "broken": "bold magenta",
}
EXIT_CODES = """\
Exit codes: 0 everything required is met; 1 something required is not met; 2 the check itself \
broke; 3 something required was skipped."""


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    group = typer.Typer(no_args_is_help=True, help="What other teams know, sign, and can rely on.")
    group.command("check", epilog=EXIT_CODES)(check)
    group.command("sign")(sign)
    group.command("plan")(plan)
    group.command("tickets")(tickets)
    group.command("drill")(drill)
    handoff_files_commands.add_to(group)
    app.add_typer(group, name="handoff", rich_help_panel="Handoff")


def check(
    context: typer.Context,
    ids: Ids = None,
    today: Today = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what takes long.")] = False,
    output: Annotated[Format, typer.Option("--format", help="How to show it.")] = "terminal",
    all_items: Annotated[
        bool, typer.Option("--all", help="In the terminal, also show what passes or is not asked.")
    ] = False,
) -> None:
    """Prove the checklist: each item by doing the thing. Items named by id are always required."""
    from model_service.handoff.check import check as prove
    from model_service.handoff.check import exit_code, today_of
    from model_service.handoff.items import items_of
    from model_service.handoff.report import report_of
    from model_service.handoff.subject import Subject

    items = items_of(ids or [])
    with Subject(context.obj, today_of(today)) as subject:
        with _Progress(len(items), shown=output == "terminal") as progress:
            results = prove(subject, items, quick=quick, named=bool(ids), report=progress.tell)
        settings = subject.settings
        code = exit_code(results)
        report = report_of(
            settings.name, settings.level, subject.today, settings.launch_date, results, code
        )
    _show(report, output, everything=all_items or bool(ids))
    raise SystemExit(code)


def sign(
    context: typer.Context,
    team: Annotated[str, typer.Argument(help="data-science, backend, devops or product.")],
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="What is signed, such as CON-3.")],
    by: Annotated[str, typer.Option(help="Who signs. Default: the name of git.")] = "",
    note: Annotated[
        str, typer.Option(help="What should be remembered, such as a request id.")
    ] = "",
    today: Today = None,
) -> None:
    """Sign items for a team: the signature counts until the bytes that it is for change."""
    from model_service.handoff.check import today_of
    from model_service.handoff.items import items_of
    from model_service.handoff.signature import SignatureError, path_of, setting_of_git, uncommitted
    from model_service.handoff.signature import sign as write_signature

    repository: Repository = context.obj
    signing = next((known for known in TEAM_NAMES if known == team), None)
    if signing is None:
        raise SignatureError(f"{team!r} is no team. Teams: {', '.join(TEAM_NAMES)}.")
    who = by or setting_of_git(repository.root, "user.name")
    if not who:
        raise SignatureError("Who signs? Say it with --by, or set user.name in git.")
    for item in items_of(ids):
        signed = write_signature(repository, item, signing, who, note, today_of(today))
        address = literal(f" <{signed.email}>" if signed.email else "")
        say(f"{literal(who)}{address} signed [bold]{item.id}[/] for {TEAM_NAMES[signing]}:")
        say(f"  {item.title}")
        say(f"  {literal(' and '.join(item.signs))}, sha256 {signed.sha256[:12]}")
        if changed := uncommitted(repository, item):
            more = f" (and {len(changed) - 1} more)" if changed[1:] else ""
            say(
                f"  {state(None)} {literal(changed[0])}{more} is not committed as it is signed: "
                "commit exactly these bytes, or the signature is for others"
            )
    file = path_of(repository, signing).relative_to(repository.root)
    say(f"Commit {file}; {command_line(f'handoff check {ids[0]}')} shows that it counts.")


def plan(
    context: typer.Context,
    kind: Annotated[
        Literal["new-service", "new-model", "new-version"], typer.Option(help="What is launched.")
    ] = "new-service",
    subject: Annotated[
        str, typer.Option(metavar="NAME", help="The model that is new. Default: the service.")
    ] = "",
    lead: Annotated[
        list[str] | None,
        typer.Option(metavar="TEAM=DAYS", help="Working days until a team begins. Repeatable."),
    ] = None,
    holidays: Annotated[
        str, typer.Option(metavar="DAYS", help="Such as 2026-12-24..2027-01-01,2027-04-02.")
    ] = "",
    today: Today = None,
) -> None:
    """Plan back from launch_date: who does what by when, and what blocks what."""
    from model_service.handoff import plan as planning
    from model_service.handoff.check import today_of
    from model_service.settings import read_settings

    repository: Repository = context.obj
    settings = read_settings(repository, os.environ)
    if kind != "new-service" and subject not in repository.model_names():
        known = ", ".join(repository.model_names())
        raise planning.PlanError(
            f"--kind {kind} needs --subject, one of {known or 'no model yet'}."
        )
    file = planning.plan_file(repository, kind, subject)
    before = planning.read_plan(file) if file.is_file() else None
    days_off = planning.days_of(holidays) if holidays else before.holidays if before else ()

    def remake(launch: dt.date | None) -> planning.Plan:
        return planning.make_plan(
            msgspec.structs.replace(settings, launch_date=launch),
            kind,
            subject or settings.name,
            today_of(today),
            lead_days=planning.leads_of(lead or []),
            holidays=days_off,
            before=before,
        )

    made = remake(settings.launch_date)
    planning.write_plan(file, made)
    say_table(
        ("due", "", "after", "ticket, whose it is, and when it is done"),
        [
            (
                str(ticket.due),
                str(ticket.id),
                " ".join(map(str, ticket.blocked_by)),
                f"{literal(ticket.title)}\n[dim]{_whose_and_until(ticket)}[/]",
            )
            for ticket in made.tickets
        ],
        title=f"{made.subject}, launch on {made.launch_date}",
    )
    say(f"Written to {file.relative_to(repository.root)}; {command_line('handoff tickets --help')}")
    late = planning.impossible(made)
    if late:
        say(f"\n[bold red]Until {made.launch_date} there is too little time for:[/]")
        for each in late:
            say(f"  {literal(each)}")
        day = planning.possible_launch(made, remake)
        say(f"With these lead times everything fits for a launch on [bold]{day}[/] or later.")
        raise SystemExit(NOT_IN_ORDER)


def _whose_and_until(ticket: Ticket) -> str:
    who = literal(ticket.person) or TEAM_NAMES[ticket.team]
    return f"{who}{': ' if ticket.done_when else ''}{', '.join(ticket.done_when)}"


def tickets(
    context: typer.Context,
    tracker: Annotated[
        Literal["github", "gitlab", "jira", "linear", "markdown"], typer.Option(help="For which.")
    ] = "markdown",
    flavor: Annotated[
        Literal["cloud", "dc"], typer.Option(help="Jira's: cloud, or dc for Data Center.")
    ] = "cloud",
    file: Annotated[
        Path | None, typer.Option("--plan", help="Default: handoff/plan.yaml.", exists=True)
    ] = None,
) -> None:
    """Print the tickets of the plan, as a tracker imports them."""
    from model_service.handoff import tickets as exported
    from model_service.handoff.plan import read_plan

    repository: Repository = context.obj
    read = read_plan(file or repository.root / "handoff" / "plan.yaml")
    written = {
        "github": exported.as_github,
        "gitlab": exported.as_gitlab,
        "linear": exported.as_linear,
        "markdown": exported.as_markdown,
    }
    text = exported.as_jira(read, flavor) if tracker == "jira" else written[tracker](read)
    sys.stdout.write(text)
    sys.stderr.write(exported.HOW_TO[tracker] + "\n")


def drill(
    context: typer.Context,
    fault: Annotated[
        str | None, typer.Argument(metavar="[FAULT]", help="Default: one is drawn.")
    ] = None,
    solved_by: Annotated[
        str, typer.Option("--solved-by", metavar="NAME", help="End the drill: who solved it.")
    ] = "",
    section: Annotated[str, typer.Option(help="By which section of the runbook.")] = "",
) -> None:
    """Plant a fault in a copy of the service and start the clock; with --solved-by, end it.

    Faults: unseen-category, renamed-field, corrupt-artefact, stale-model, slow-feature, full-disk.
    """
    from model_service.handoff import drill as drilling
    from model_service.handoff.drill_faults import FAULTS
    from model_service.handoff.signature import setting_of_git

    repository: Repository = context.obj
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    if solved_by:
        email = setting_of_git(repository.root, "user.email")
        done = drilling.end(repository, solved_by, email, section, now)
        say(f"[green]Solved[/] by {literal(solved_by)} after {done.minutes:g} minutes.")
        file = drilling.drills_file(repository).relative_to(repository.root)
        say(f"Commit {file}; {command_line('handoff check OPS-2')} shows that it counts.")
        return
    if fault is not None and fault not in FAULTS:
        raise drilling.DrillError(f"{fault!r} is no fault. Faults: {', '.join(FAULTS)}.")
    begun = drilling.begin(repository, fault or secrets.choice(list(FAULTS)), now)
    folder = drilling.drill_folder(repository).relative_to(repository.root)
    say(f"[bold]The clock runs.[/] In {folder}: {literal(begun.symptom)}.")
    say("Mend that copy with docs/runbook.md alone. callers.json is what callers send. Run there:")
    say(f"  {literal(command_line(f'--repository {folder} list'))}")
    say("When it is well again, and you know which section of the runbook led there:")
    say(f"  {literal(command_line('handoff drill --solved-by NAME --section SECTION'))}")


class _Progress:
    """A line that says which item is being proven, where somebody watches."""

    def __init__(self, count: int, *, shown: bool) -> None:
        from rich.console import Console

        self._count = count
        self._done = 0
        console = Console(stderr=True)
        self._status = console.status("") if shown and console.is_terminal else None

    def __enter__(self) -> _Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def tell(self, item: Item) -> None:
        """Say that an item is being proven now."""
        self._done += 1
        if self._status:
            self._status.update(f"{self._done} of {self._count}  {item.id}  {item.title}")


def _show(report: Report, output: Format, *, everything: bool) -> None:
    from model_service.handoff import report as words
    from model_service.handoff.report_page import as_html

    if output == "terminal":
        _show_in_terminal(report, everything=everything)
        return
    written = {
        "md": words.as_markdown,
        "json": words.as_json,
        "junit": words.as_junit,
        "github": words.as_annotations,
        "html": as_html,
    }
    say_plainly(written[output](report).rstrip("\n"))


def _show_in_terminal(report: Report, *, everything: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from model_service.handoff.report import MARKS, by_group, due_of, score_line

    console = Console(highlight=False)
    console.print(
        f"\n[bold]{literal(report.service)}[/], level {report.level}: {report.headline}\n"
    )
    for digest in report.teams:
        name, _, rest = digest.line.partition(": ")
        style = "red" if digest.to_do else "yellow" if digest.stale else "green"
        console.print(f"  [bold {style}]{name:<13}[/] {rest}  [dim]{digest.done} hold[/]")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    table.add_column("item", no_wrap=True)
    table.add_column("what must hold, and what was found", ratio=1, overflow="fold")
    table.add_column("owner", no_wrap=True)
    table.add_column("required from", no_wrap=True)
    left_out = 0
    for group, results in by_group(report):
        shown = [r for r in results if everything or r.is_open or r.state == "waived"]
        shown += [r for r in results if r not in shown and r.required and r.state == "skipped"]
        left_out += len(results) - len(shown)
        if shown:
            table.add_section()
            table.add_row("", "", f"[bold]{group}[/]", "", "")
        for result in sorted(shown, key=results.index):
            style = STYLES[result.state]
            table.add_row(
                f"[{style}]{MARKS[result.state]}[/]",
                result.item.id,
                f"{literal(result.item.title)}\n"
                f"[{style}]{result.state}[/][dim]: {literal(result.line)}[/]",
                TEAM_NAMES[result.team],
                ("[bold]%s[/]" if result.required else "%s") % due_of(result, report.today),
            )
    if table.row_count:
        console.print(table)
    hint = f"; {left_out} that hold or are not asked: {command_line('handoff check --all')}"
    console.print(f"\n{score_line(report)}{hint if left_out else ''}\n")
