"""Commands that write what other teams read: `handoff codeowners` and `handoff pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import NOT_IN_ORDER, command_line, literal, say, state, stop

if TYPE_CHECKING:
    from pathlib import Path

    from model_service.handoff.generated_files import Files
    from model_service.repository import Repository

OnlyCheck = Annotated[
    bool, typer.Option("--check", help="Change nothing; end with 1 if something is stale.")
]


def add_to(group: typer.Typer) -> None:
    """Add these commands to the group `handoff`."""
    group.command("pack")(pack)
    group.command("codeowners")(codeowners)


def pack(context: typer.Context, only_check: OnlyCheck = False) -> None:
    """Write one page for each team, to be read without a network: backend, DevOps, product."""
    from model_service import settings as of
    from model_service.contract.reading import ContractError
    from model_service.handoff.pack.pages import PackError, make_pages, pages_folder

    repository: Repository = context.obj
    try:
        pages = make_pages(repository, of.read_settings(repository, {}))
    except (ContractError, PackError) as error:
        stop(str(error))
    folder = pages_folder(repository)
    write_or_check(folder, pages, repository, command="handoff pack", only_check=only_check)


def write_or_check(
    folder: Path, files: Files, repository: Repository, *, command: str, only_check: bool
) -> None:
    """Write a folder of generated files, or end the command with 1 if it is not as it would be."""
    from model_service.handoff.generated_files import stale_files, write_files

    shown = folder.relative_to(repository.root)
    stale = stale_files(folder, files) if only_check else []
    for each in stale:
        say(f"{state(False)} {shown}/{literal(each)}")
    if stale:
        say(f"Write it again, review it, and commit it: {command_line(command)}.")
        raise SystemExit(NOT_IN_ORDER)
    changed = [] if only_check else write_files(folder, files)
    for name in changed:
        say(f"    {shown}/{literal(name)}")
    say(f"{state(True)} {shown}/ {'is written: commit it' if changed else 'is fresh'}.")


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
