"""Commands that watch: `monitor`, and `report` for people."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.terminal import NOT_IN_ORDER, literal, say, say_plainly, state, stop

if TYPE_CHECKING:
    from model_service.monitoring.monitor import Monitor
    from model_service.repository import Repository
    from model_service.settings import Settings

PANEL = "Watching"
SECONDS_BETWEEN_VIEWS = 2.0


def add_to(app: typer.Typer) -> None:
    """Add these commands to the service's command."""
    app.command("monitor", rich_help_panel=PANEL)(monitor)
    app.command("report", rich_help_panel=PANEL)(report)


def monitor(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, show what is seen, and end.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show what the running monitor sees, until Ctrl-C.")
    ] = False,
    drill: Annotated[
        bool,
        typer.Option(
            "--drill", help="Send drifted rows through service and monitor: does an alarm come?"
        ),
    ] = False,
    model: Annotated[str | None, typer.Option(help="Of a drill. Default: the first.")] = None,
    seconds: Annotated[float, typer.Option(help="How long a drill may take.", min=1)] = 600,
    key: Annotated[
        str | None, typer.Option(envvar="API_KEY", help="An API key for the drill.")
    ] = None,
) -> None:
    """Watch every version for drift, quality and silence; without an option, until stopped."""
    from model_service.settings import read_settings

    if once + watch + drill > 1:
        stop("Say --once, --watch or --drill, not several.")
    repository: Repository = context.obj
    settings = read_settings(repository, os.environ)
    if drill:
        _drill(settings, repository, seconds, key, model)
    elif watch:
        _watch(settings, repository)
    elif once:
        _once(settings, repository)
    else:
        _run(settings, repository)


def report(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where to write the page.")] = Path(
        "report.html"
    ),
) -> None:
    """Write a page about every version: what changed, since when, and what to do."""
    from model_service.files import write_atomically
    from model_service.monitoring.lease import MonitorRunsError
    from model_service.monitoring.monitor import store_of
    from model_service.monitoring.report import report_page
    from model_service.monitoring.terminal_view import seen_versions
    from model_service.registry.registry import Registry
    from model_service.settings import read_settings

    repository: Repository = context.obj
    settings = read_settings(repository, os.environ)
    with contextlib.suppress(MonitorRunsError):  # then what that one sees is what is shown
        _monitor(settings, repository).run_once()
    store = store_of(settings, repository)
    registry = Registry(repository.root / settings.stores.registry)
    page = report_page(settings, seen_versions(repository, registry, store))
    store.close()
    write_atomically(file, page.encode())
    say(f"{state(True)} {literal(file)}: open it in a browser.")


def _run(settings: Settings, repository: Repository) -> None:
    running = _monitor(settings, repository)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stopping.set())
    running.run_for_ever()


def _once(settings: Settings, repository: Repository) -> None:
    from rich.console import Console

    from model_service.monitoring.terminal_view import view

    running = _monitor(settings, repository)
    running.run_once()
    Console(highlight=False).print(view(running.gauges.seen, running.previews()))


def _drill(
    settings: Settings,
    repository: Repository,
    seconds: float,
    key: str | None,
    model: str | None,
) -> None:
    from model_service.monitoring.drill import FireDrill, Link
    from model_service.monitoring.monitor import store_of

    def tell(link: Link) -> None:
        if not link.is_tested:
            say(f"{state(None)} {link.name}: not tested, service.yaml names none")
        elif link.seconds is None:
            say(f"{state(False)} {link.name}: nothing within {seconds:g} s; the chain breaks here")
        else:
            say(f"{state(True)} {link.name}: {link.seconds:.1f} s")

    store = store_of(settings, repository)
    held = FireDrill(settings, repository, store, seconds=seconds, key=key, model=model)
    say(f"[bold]{held.model}[/] version {held.version}: {literal(held.feature)} is frozen")
    came = held.hold(tell)
    store.close()
    if not came:
        raise SystemExit(NOT_IN_ORDER)


def _watch(settings: Settings, repository: Repository) -> None:
    import time

    from rich.console import Console
    from rich.live import Live

    from model_service.monitoring.lease import is_watched
    from model_service.monitoring.monitor import store_of
    from model_service.monitoring.terminal_view import seen_versions, view
    from model_service.registry.registry import Registry

    store = store_of(settings, repository)
    registry = Registry(repository.root / settings.stores.registry)
    no_monitor = f"No monitor runs: start `{settings.name} monitor` beside the service."
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            told = "" if is_watched(store) else no_monitor
            seen = seen_versions(repository, registry, store)
            live.update(view(seen, {}, told), refresh=True)
            time.sleep(SECONDS_BETWEEN_VIEWS)


def _monitor(settings: Settings, repository: Repository) -> Monitor:
    from model_service.hooks import load_hooks
    from model_service.monitoring.monitor import Monitor

    hooks = load_hooks(repository.root, say_plainly)
    return Monitor(settings, repository, hooks, say_plainly)
