"""Commands that write what other teams read: `handoff codeowners` and `handoff pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import NOT_IN_ORDER, command_line, literal, say, state, stop

if TYPE_CHECKING:
    from model_service.repository import Repository

OnlyCheck = Annotated[
    bool, typer.Option("--check", help="Change nothing; end with 1 if something is stale.")
]


def add_to(group: typer.Typer) -> None:
    """Add these commands to the group `handoff`."""
    group.command("codeowners")(codeowners)


def codeowners(context: typer.Context, only_check: OnlyCheck = False) -> None:
    """Write CODEOWNERS from the people in service.yaml and models/*/model.yaml."""
    from model_service import settings as of
    from model_service.handoff.owners_file import (
        OwnersFileError,
        contacts_without_account,
        made_lines,
        owners_file,
        with_made_lines,
        write_owners_file,
    )

    repository: Repository = context.obj
    settings = of.read_settings(repository, {})
    path = owners_file(repository)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    shown = path.relative_to(repository.root)
    try:
        made = with_made_lines(text, made_lines(repository, settings))
    except OwnersFileError as error:
        if only_check:
            say(f"{state(False)} {literal(error)}")
            raise SystemExit(NOT_IN_ORDER) from None
        stop(str(error))
    for name in contacts_without_account(settings):
        say(f"{state(None)} contacts.{name} of service.yaml is no account: it is asked of nobody.")
    if made == text:
        say(f"{state(True)} {shown} says what service.yaml and models/*/model.yaml say.")
    elif only_check:
        todo = command_line("handoff codeowners")
        say(f"{state(False)} {shown} says something else. Write it again: {todo}.")
        raise SystemExit(NOT_IN_ORDER)
    else:
        write_owners_file(path, made)
        say(f"{state(True)} {shown} is written: review it, and commit it.")
