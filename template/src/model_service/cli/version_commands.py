"""Commands for versions: train them, look at them, let them answer."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_service.cli.terminal import (
    NOT_IN_ORDER,
    START_ONE,
    command_line,
    literal,
    say,
    say_json,
    say_table,
    state,
    stop,
)

if TYPE_CHECKING:
    from model_service.registry.registry import Registry
    from model_service.registry.traffic import ModelTraffic
    from model_service.repository import Repository

PANEL = "Versions"
METRICS_LISTED = 2
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]
AsJson = Annotated[bool, typer.Option("--json", help="For another program.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    commands = (
        ("train", train),
        ("list", list_versions),
        ("show", show),
        ("verify", verify),
    )
    for name, command in commands:
        app.command(name, rich_help_panel=PANEL)(command)


def registry_of(repository: Repository) -> Registry:
    """Return the registry that the settings name."""
    from model_service.registry.registry import Registry
    from model_service.settings import read_settings

    stores = read_settings(repository, os.environ).stores
    return Registry(repository.root / stores.registry)


def champion_of(repository: Repository, name: str) -> str:
    """Return the version that answers for a model; end the command if there is none."""
    from model_service.registry.traffic import read_traffic

    entry = read_traffic(repository.traffic).models.get(name)
    if entry is None or entry.champion is None:
        known_model(repository, name)
        stop(
            f"{name} has no champion. Train it ({command_line(f'train {name}')}), "
            f"or choose a version ({command_line(f'promote {name} VERSION')})."
        )
    return entry.champion


def known_model(repository: Repository, name: str) -> None:
    names = repository.model_names()
    if name not in names and not registry_of(repository).versions(name):
        known = ", ".join(names) or f"none yet, see {command_line('new --help')}"
        stop(f"There is no model {name!r}. Models: {known}.")


def known_version(repository: Repository, name: str, version: str) -> None:
    known_model(repository, name)
    registry_of(repository).folder(name, version)


def train(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only models of which no version answers yet.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Only rows of this day and later, by TIME."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same predictions.")
    ] = 0,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            help="Accept a format that runs code when it is loaded; the manifest records it.",
        ),
    ] = False,
) -> None:
    """Train a model and write its next version; the first one answers, later ones wait."""
    from model_service.training import train as train_model

    repository: Repository = context.obj
    chosen = _models_to_train(repository, names or [], every, missing)
    failed = []
    for name in chosen:
        say(f"[bold]{name}[/]")
        try:
            trained = train_model(
                repository,
                name,
                seed=seed,
                allow_pickle=allow_pickle,
                since=since.date() if since else None,
                report=lambda step: say(f"  [dim]·[/] {literal(step)}"),
            )
        except Exception as error:
            if not type(error).__module__.startswith("model_service."):
                raise
            say(f"  {state(False)} {literal(error)}")
            failed.append(name)
            continue
        champion = champion_of(repository, name)
        folder = literal(trained.folder)
        say(f"  {state(True)} version {trained.version} ({trained.format}): {folder}")
        if champion != trained.version:
            promote = command_line(f"promote {name} {trained.version}")
            say(f"    Version {champion} still answers. To change that: {promote}.")
    if failed:
        stop(f"Not trained: {', '.join(failed)}. The reason stands above.", NOT_IN_ORDER)


def _models_to_train(
    repository: Repository, names: list[str], every: bool, missing: bool
) -> list[str]:
    known = repository.model_names()
    if every == bool(names):
        stop("Name the models to train, or say --all.")
    for name in names:
        known_model(repository, name)
    chosen = known if every else names
    if not chosen:
        stop(f"There is no model yet. Start one: {command_line(START_ONE)}.")
    if not missing:
        return chosen
    from model_service.registry.traffic import read_traffic

    registry = registry_of(repository)
    traffic = read_traffic(repository.traffic).models
    waiting = [
        name
        for name in chosen
        if not registry.versions(name) or name not in traffic or traffic[name].champion is None
    ]
    if not waiting:
        say(f"{state(True)} Every model has a version already.")
    return waiting


def list_versions(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: every model.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every model with its versions, and which of them answers."""
    from model_service.registry.traffic import read_traffic

    repository: Repository = context.obj
    registry = registry_of(repository)
    traffic = read_traffic(repository.traffic).models
    found: list[dict[str, Any]] = []
    for name in names or ():
        known_model(repository, name)
    for name in names or sorted({*repository.model_names(), *registry.models()}):
        entry = traffic.get(name)
        versions = registry.versions(name)
        found += [_version_line(registry, name, version, entry) for version in versions]
        if not versions:
            found.append({"model": name, "version": None})
    if as_json:
        say_json(found)
        return
    say_table(
        ("model", "version", "answers", "trained", "on held-out rows"),
        [_line(line) for line in found],
    )
    if not found:
        say(f"No model yet. Start one: {command_line(START_ONE)}.")


def _version_line(
    registry: Registry, name: str, version: str, entry: ModelTraffic | None
) -> dict[str, Any]:
    from model_service.registry.manifest import VersionError, read_manifest

    line: dict[str, Any] = {
        "model": name,
        "version": version,
        "roles": entry.roles_of(version) if entry else (),
    }
    try:
        manifest = read_manifest(registry.folder(name, version))
    except VersionError as error:
        return line | {"fault": error.reason}
    return line | {
        "format": manifest.format,
        "created_at": manifest.created_at,
        "metrics": manifest.metrics,
    }


def _line(line: dict[str, Any]) -> tuple[str, ...]:
    if line["version"] is None:
        todo = f"train it: {command_line('train ' + line['model'])}"
        return line["model"], "-", "", "", todo
    role = ", ".join(line["roles"]).replace("champion", "[green]champion[/]")
    if "fault" in line:
        return line["model"], line["version"], role, "", f"[red]{literal(line['fault'])}[/]"
    metrics = [f"{name}\u00a0{value:.3g}" for name, value in line["metrics"].items()]
    day = str(line["created_at"])[:10]
    return line["model"], line["version"], role, day, " ".join(metrics[:METRICS_LISTED])


def show(
    context: typer.Context,
    name: Name,
    version: Annotated[str | None, typer.Argument(help="Default: the champion.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one version: where it comes from, how good it is, what is in it."""
    from model_service.registry.manifest import read_checked, read_manifest

    repository: Repository = context.obj
    chosen = version or champion_of(repository, name)
    folder = registry_of(repository).folder(name, chosen)
    if as_json:
        say_json(read_manifest(folder))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    card = read_checked(folder, read_manifest(folder), "card.md").decode(errors="replace")
    Console().print(Markdown(card))
    say(f"[dim]{literal(folder)}[/]")


def verify(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The model.")] = None,
    version: Annotated[str | None, typer.Argument(help="Default: every version.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version of every model.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove that versions are what was trained, and still give their golden predictions."""
    repository: Repository = context.obj
    registry = registry_of(repository)
    if every == bool(name):
        stop("Name a model, or say --all.")
    if name and version:
        known_version(repository, name, version)
    elif name:
        known_model(repository, name)
    checked = [
        {"model": model, "version": number, "differences": differences_of(registry, model, number)}
        for model in ([name] if name else registry.models())
        for number in ([version] if version else registry.versions(model))
    ]
    if as_json:
        say_json(checked)
    for result in [] if as_json else checked:
        differences = result["differences"]
        say(f"{state(not differences)} {result['model']} version {result['version']}")
        for difference in differences[:10]:
            say(f"    {literal(difference)}")
    if not checked:
        stop(f"There is no version to verify. Train a model first: {command_line('train --all')}.")
    if any(result["differences"] for result in checked):
        raise SystemExit(NOT_IN_ORDER)


def differences_of(registry: Registry, model: str, version: str) -> list[str]:
    from model_service.registry.loaded_version import VersionError, load_version

    try:
        return load_version(registry.folder(model, version)).replay_golden()
    except VersionError as error:
        return [str(error)]
