"""Commands that change which version answers: `promote`, `rollback`, `canary` and `shadow`."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.compare_command import (
    how_to_accept,
    loaded,
    refuse_contract,
    refuse_to_promote,
)
from model_service.cli.terminal import NOT_IN_ORDER, command_line, say, state, stop
from model_service.cli.version_commands import (
    PANEL,
    Name,
    champion_of,
    differences_of,
    known_model,
    known_version,
    registry_of,
)

if TYPE_CHECKING:
    from model_service.registry.loaded_version import LoadedVersion
    from model_service.registry.traffic import ModelTraffic
    from model_service.repository import Repository

Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its number.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    app.command("promote", rich_help_panel=PANEL)(promote)
    app.command("rollback", rich_help_panel=PANEL)(rollback)
    app.command("canary", rich_help_panel=PANEL)(canary)
    app.command("shadow", rich_help_panel=PANEL)(shadow)


def promote(
    context: typer.Context,
    name: Name,
    version: Version,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Although callers break, or too many decisions flip."),
    ] = False,
) -> None:
    """Let a version answer, if its golden predictions replay and it breaks no caller."""
    from model_service.registry import traffic

    repository: Repository = context.obj
    _check_it_may_answer(repository, name, version)
    champion = traffic.read_traffic(repository.traffic).models.get(name)
    if champion and champion.champion not in (None, version):
        _compare_with(repository, name, champion.champion or "", version, accept=accept)
    traffic.promote(repository.traffic, name, version, by=_person())
    say(f"{state(True)} Version {version} is the champion of {name}.")


def _compare_with(
    repository: Repository, name: str, champion: str, version: str, *, accept: bool
) -> None:
    """Print what the promotion changes; end the command if it should not happen."""
    from model_service.settings import read_settings

    new = loaded(repository, name, version)
    if differences_of(registry_of(repository), name, champion):
        say(f"{state(None)} The champion, version {champion}, is broken: no answers to compare.")
        reason = _refuse_by_contract(repository, name, champion, new)
    else:
        limit = read_settings(repository, os.environ).promotion.flipped_decisions
        reason = refuse_to_promote(loaded(repository, name, champion), new, limit)
    if reason and not accept:
        stop(
            f"Version {version} was not promoted: {reason}. If that is meant: "
            f"{how_to_accept(name, version)}.",
            NOT_IN_ORDER,
        )


def _refuse_by_contract(
    repository: Repository, name: str, champion: str, new: LoadedVersion
) -> str | None:
    """Do what can be done without the champion's model: return why callers would break, or None."""
    from model_service.contract.reading import ContractError, parse_contract
    from model_service.registry.manifest import VersionError

    try:
        path = registry_of(repository).folder(name, champion) / "contract.yaml"
        promised = parse_contract(path.read_text("utf-8"), path, model=name)
    except (VersionError, ContractError, OSError, UnicodeError) as error:
        return f"nobody knows what version {champion} promised its callers: {error}"
    return refuse_contract(promised, new.contract)


def rollback(context: typer.Context, name: Name) -> None:
    """Let the champion before this one answer again, once its golden predictions replay."""
    from model_service.registry import traffic

    repository: Repository = context.obj
    champion_of(repository, name)
    version = traffic.previous_champion(repository.traffic, name)
    _check_it_may_answer(repository, name, version)
    traffic.promote(repository.traffic, name, version, by=_person())
    say(f"{state(True)} Version {version} is the champion of {name} again.")


def canary(
    context: typer.Context,
    name: Name,
    version: Version,
    percent: Annotated[
        float, typer.Argument(metavar="PERCENT", min=0, max=100, help="Of the requests; 0 ends it.")
    ],
    accept: Annotated[bool, typer.Option("--accept", help="Although callers break.")] = False,
) -> None:
    """Let a version answer a percentage of the requests; each entity stays with one version."""
    from model_service.registry import traffic

    repository: Repository = context.obj
    if percent:
        _check_it_may_answer(repository, name, version)
        champion = traffic.read_traffic(repository.traffic).models.get(name)
        new = loaded(repository, name, version)
        reason = None
        if champion and champion.champion:
            reason = _refuse_by_contract(repository, name, champion.champion, new)
        if reason and not accept:
            again = command_line(f"canary {name} {version} {percent:g} --accept")
            stop(f"No caller is sent there: {reason}. If that is meant: {again}.", NOT_IN_ORDER)
    else:
        known_model(repository, name)
    entry = traffic.canary(repository.traffic, name, version, percent, by=_person())
    _say_shares(name, entry)


def shadow(
    context: typer.Context,
    name: Name,
    version: Version,
    off: Annotated[bool, typer.Option("--off", help="Stop asking it.")] = False,
) -> None:
    """Ask a version as well, and only count and log where it would have answered differently."""
    from model_service.registry import traffic

    repository: Repository = context.obj
    if not off:
        _check_it_may_answer(repository, name, version)
    else:
        known_model(repository, name)
    entry = traffic.shadow(repository.traffic, name, version, by=_person(), on=not off)
    _say_shares(name, entry)


def _check_it_may_answer(repository: Repository, name: str, version: str) -> None:
    known_version(repository, name, version)
    differences = differences_of(registry_of(repository), name, version)
    if differences:
        stop(f"{name} version {version} may not answer: {'; '.join(differences[:3])}", NOT_IN_ORDER)


def _say_shares(name: str, entry: ModelTraffic) -> None:
    rest = 100 - sum(entry.challengers.values())
    shares = [f"version {entry.champion} (champion) answers {rest:g}%"]
    shares += [
        f"version {version} answers {share:g}%" for version, share in entry.challengers.items()
    ]
    shares += [f"version {version} is a shadow" for version in entry.shadows]
    say(f"{state(True)} {name}: {', '.join(shares)}.")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
