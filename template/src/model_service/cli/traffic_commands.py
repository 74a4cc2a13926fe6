"""Commands that change which version answers: `promote` and `rollback`."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import NOT_IN_ORDER, say, state, stop
from model_service.cli.version_commands import (
    PANEL,
    Name,
    champion_of,
    differences_of,
    known_model,
    registry_of,
)

if TYPE_CHECKING:
    from model_service.repository import Repository


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    app.command("promote", rich_help_panel=PANEL)(promote)
    app.command("rollback", rich_help_panel=PANEL)(rollback)


def promote(context: typer.Context, name: Name, version: Annotated[str, typer.Argument()]) -> None:
    """Let a version answer, once its golden predictions replay; `rollback` undoes it."""
    from model_service.registry import traffic

    repository: Repository = context.obj
    known_model(repository, name)
    differences = differences_of(registry_of(repository), name, version)
    if differences:
        stop(f"{name} version {version} may not answer: {'; '.join(differences[:3])}", NOT_IN_ORDER)
    traffic.promote(repository.traffic, name, version, by=_person())
    say(f"{state(True)} Version {version} is the champion of {name}.")


def rollback(context: typer.Context, name: Name) -> None:
    """Let the champion before this one answer again, once its golden predictions replay."""
    from model_service.registry import traffic

    repository: Repository = context.obj
    champion_of(repository, name)
    version = traffic.previous_champion(repository.traffic, name)
    differences = differences_of(registry_of(repository), name, version)
    if differences:
        stop(f"{name} version {version} may not answer: {'; '.join(differences[:3])}", NOT_IN_ORDER)
    traffic.promote(repository.traffic, name, version, by=_person())
    say(f"{state(True)} Version {version} is the champion of {name} again.")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
