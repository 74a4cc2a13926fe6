"""Commands that copy versions to where others find them: `push` and `pull`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import NOT_IN_ORDER, literal, say, say_json, state, stop
from model_service.cli.version_commands import PANEL, AsJson, registry_of

if TYPE_CHECKING:
    from model_service.registry.remote_registry import Progress, RemoteRegistry
    from model_service.repository import Repository

Model = Annotated[str | None, typer.Argument(metavar="[MODEL]")]
Number = Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Default: all of it.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    app.command("push", rich_help_panel=PANEL)(push)
    app.command("pull", rich_help_panel=PANEL)(pull)


def push(
    context: typer.Context,
    model: Model = None,
    version: Number = None,
    every: Annotated[bool, typer.Option("--all", help="Every version.")] = False,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Log them to the server of MLFLOW_TRACKING_URI.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy versions to the remote registry; one that is there already is never replaced."""
    repository: Repository = context.obj
    if every == bool(model):
        stop("Name a model, or say --all.")
    registry = registry_of(repository)
    chosen = [
        (name, number)
        for name in ([model] if model else registry.models())
        for number in ([version] if version else registry.versions(name))
    ]
    if not chosen:
        stop(f"There is no version of {model or 'any model'} to push.")
    if mlflow:
        from model_service.training.mlflow_registry import log_version

        logged = [(n, v, log_version(registry.folder(n, v))) for n, v in chosen]
        for name, number, (address, is_new) in [] if as_json else logged:
            now = "logged as" if is_new else "was there already as"
            say(f"{state(True)} {literal(name)} version {number} {now} {literal(address)}")
        if as_json:
            say_json([{"model": n, "version": v, "mlflow": to[0]} for n, v, to in logged])
        return
    remote = _remote_of(repository)
    with _progress(as_json) as progress:
        done = [
            (name, number, remote.push(registry.folder(name, number), progress))
            for name, number in chosen
        ]
    _tell(done, "pushed", "was there already", as_json)


def pull(
    context: typer.Context,
    model: Model = None,
    version: Number = None,
    every: Annotated[bool, typer.Option("--all", help="Every version that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy versions from the remote registry, proven by their digests. Default: all that answer."""
    repository: Repository = context.obj
    if every and model:
        stop("Name a model, or say --all.")
    registry, remote = registry_of(repository), _remote_of(repository)
    with _progress(as_json) as progress:
        done = [
            (name, number, remote.pull(registry, name, number, progress))
            for name, number in _to_pull(repository, remote, model, version, every)
        ]
    _tell(done, "pulled", "was here already", as_json)


def _remote_of(repository: Repository) -> RemoteRegistry:
    from model_service.registry.remote_registry import RemoteRegistry
    from model_service.settings import read_settings, variable_of

    url = read_settings(repository, os.environ).stores.remote_registry
    if not url:
        stop(
            "There is no remote registry. Name one as stores.remote_registry in service.yaml, or "
            f"as {variable_of('stores.remote_registry')}, such as s3://bucket/path."
        )
    return RemoteRegistry(url)


def _to_pull(
    repository: Repository,
    remote: RemoteRegistry,
    model: str | None,
    version: str | None,
    every: bool,
) -> list[tuple[str, str]]:
    if model and version:
        return [(model, version)]
    if model or every:
        found = [pair for pair in remote.versions() if model in (None, pair[0])]
        if not found:
            stop(f"{remote.url} has no version{f' of {model}' if model else ''}.", NOT_IN_ORDER)
        return found
    from model_service.registry.traffic import read_traffic

    traffic = read_traffic(repository.traffic).models
    named = [(name, number) for name, entry in traffic.items() for number in entry.served]
    if not named:
        stop("traffic.yaml names no version. Name a model, or say --all.")
    return named


@contextmanager
def _progress(as_json: bool) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bars = Progress(
        *columns,
        TransferSpeedColumn(),
        console=Console(stderr=True),
        disable=as_json,
        transient=True,
    )
    task = bars.add_task("")
    with bars:
        yield lambda file, done, size: bars.update(
            task, description=file, completed=done, total=size
        )


def _tell(done: list[tuple[str, str, bool]], new: str, old: str, as_json: bool) -> None:
    if as_json:
        say_json([{"model": m, "version": v, new: is_new} for m, v, is_new in done])
        return
    for model, version, is_new in done:
        say(f"{state(True)} {literal(model)} version {version} {new if is_new else old}")
