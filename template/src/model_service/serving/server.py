"""`serve`: the service on uvicorn, from binding the port to the last answer before it stops."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shlex
import signal
import socket
import sys
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from model_service.hooks import load_hooks
from model_service.registry.registry import Registry
from model_service.registry.traffic import Traffic, read_traffic
from model_service.repository import Repository, how_to_install
from model_service.serving.app import Service, create_app
from model_service.serving.docs_page import example_body
from model_service.serving.documents import contracts_of
from model_service.serving.http_protocol import ProblemProtocol
from model_service.serving.loaded_models import LoadedModels
from model_service.serving.logs import JsonHandler
from model_service.serving.loop_watch import LoopWatch
from model_service.serving.shared_numbers import SharedNumbers
from model_service.settings import Settings

SECONDS_IDLE_CONNECTION = 75
"""Longer than the 60 seconds of common load balancers: they close connections first, so that none
sends a request into one that is just being closed."""

BACKLOG = 2048
STUCK_SECONDS = 5.0
STUCK_REQUESTS = 3.0
"""A process is ended when its event loop stood still for so many times the limit of a request."""
SECONDS_OF_SILENCE = 30
"""After which a worker is replaced that says nothing, as one that has not even started; by default
it would be killed after 5 seconds, again and again where little of a processor is given to it."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only folders with a name that nobody knows are made in it


class ServeError(Exception):
    """The service cannot be started; says why and what to run. The command exits with 2."""


class _Server(uvicorn.Server):
    """Ends with 0 when it was told to stop: that lost no request and is no failure."""

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Answer what is under way, then end; a second Ctrl-C does not wait for anybody.

        uvicorn would raise the signal again in the end.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


class _Workers(Multiprocess):
    """Hears at once that a worker is gone, also one that was just asked for a sign of life."""

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are gone or silent."""
        for process in self.processes:
            process.child_conn.close()  # the worker has its own: with that, the connection ends
        super().keep_subprocess_alive()


def serve(settings: Settings, repository: Repository) -> None:
    """Answer requests until told to stop; requests that are under way are answered first.

    Raises:
        ServeError: there is nothing to serve yet, or the port is not free.
        TrafficError: `traffic.yaml` cannot be read.
    """
    _check_tracing(settings)
    _check_something_is_trained(settings, repository)
    # Pools of spinning threads make single requests slow on a busy machine: scale by workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    listener = _bind(settings.server.host, settings.server.port)
    url = _url_of(listener)
    _say(f"{settings.title or settings.name}: {url}  (documentation: {url}/docs)")
    if settings.server.stub:
        _say("This is the stub: contracts, policies and errors hold, the answers are made up.")
    if settings.server.workers > 1:
        _serve_by_workers(settings, repository, listener, url)
    else:
        _serve_alone(settings, repository, listener, url)


def _serve_alone(
    settings: Settings, repository: Repository, listener: socket.socket, url: str
) -> None:
    def on_loaded(models: LoadedModels) -> None:
        _say_states(models)
        _say_example(models, url)

    app = create_app(settings, repository, on_loaded=on_loaded)
    assert isinstance(app, Service)
    _take_the_process(app)
    server = _Server(_config(settings, app))
    server.run(sockets=[listener])
    _say("Stopped.")


def _serve_by_workers(
    settings: Settings, repository: Repository, listener: socket.socket, url: str
) -> None:
    workers = settings.server.workers
    load_hooks(repository.root, _say)  # a worker that cannot would be started for ever
    _say(f"{workers} workers, whose numbers add up in /metrics of each. Try {url}/readyz")
    with _numbers_folder() as numbers:
        make_app = partial(_worker_app, settings, repository, Path(numbers))
        config = _config(settings, make_app, workers=workers)
        _Workers(config, sockets=[listener]).run()


def _numbers_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for the numbers of all workers, in memory where the system has one there."""
    in_memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    try:
        return tempfile.TemporaryDirectory(prefix="model-service-", dir=in_memory)
    except OSError as error:
        raise ServeError(
            f"Several workers count together in a folder of temporary files: {error}. Name one "
            "that can be written in TMPDIR, or serve with --workers 1."
        ) from None


def _worker_app(settings: Settings, repository: Repository, numbers: Path) -> Starlette:
    """Make the app of one worker process; it is called in that process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    app = create_app(settings, repository, numbers=SharedNumbers(numbers))
    assert isinstance(app, Service)
    _take_the_process(app)
    return app


def _end_with_parent() -> None:
    """Let a worker stop, as if told to, when the process that started it was killed: nobody else
    would tell it, and it would keep the port from the next start."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _config(settings: Settings, app: object, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        factory=workers > 1,
        workers=workers,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=partial(ProblemProtocol, seconds=settings.limits.seconds_per_request),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=SECONDS_IDLE_CONNECTION,
        timeout_worker_healthcheck=SECONDS_OF_SILENCE,
        timeout_graceful_shutdown=int(settings.limits.seconds_per_request) + 5,
    )


def _check_tracing(settings: Settings) -> None:
    if not settings.tracing:
        return
    try:
        import model_service.serving.tracing  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as error:
        raise ServeError(
            f"tracing needs {error.name}: {how_to_install('tracing')}, or set `tracing: false` in "
            "service.yaml."
        ) from None


def _check_something_is_trained(settings: Settings, repository: Repository) -> None:
    traffic = read_traffic(repository.traffic)
    _check_models_exist(settings, repository, traffic)
    if any(entry.champion for entry in traffic.models.values()):
        return
    if settings.server.stub and repository.model_names():
        return
    command = settings.name
    registry = Registry(repository.root / settings.stores.registry)
    trained = {name: registry.versions(name) for name in registry.models()}
    trained = {name: versions for name, versions in trained.items() if versions}
    if trained:
        name, versions = next(iter(trained.items()))
        todo = f"`{command} promote {name} {versions[-1]}`"
        raise ServeError(f"traffic.yaml names no champion, so nothing would answer. Run {todo}.")
    if repository.model_names():
        names = ", ".join(repository.model_names())
        raise ServeError(
            f"No version is trained yet (models: {names}). Run `{command} train --all`, "
            f"then `{command} serve`; `{command} serve --stub` answers from the contracts alone."
        )
    raise ServeError(
        f"There is no model in {repository.models} yet. Run `{command} new NAME`, then "
        f"`{command} train NAME`."
    )


def _check_models_exist(settings: Settings, repository: Repository, traffic: Traffic) -> None:
    known = {*repository.model_names(), *traffic.models}
    unknown = sorted({*settings.server.models} - known)
    if unknown:
        raise ServeError(
            f"There is no model {unknown[0]!r} to serve. Models: {', '.join(sorted(known))}. "
            "Correct --models, MODELS or server.models."
        )


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Whoever reads the address connects at once; the loop answers as soon as it runs.
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        listener.close()
        raise ServeError(
            f"Cannot listen on {host}:{port}: {error}. Stop what uses the port, or choose another "
            "with --port (0 takes any that is free)."
        ) from None
    listener.set_inheritable(True)
    return listener


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _take_the_process(app: Service) -> None:
    """Let the process be the app's: it ends when the app hangs, and what libraries log (uvicorn
    among them) goes through the app's log."""
    seconds = app.settings.limits.seconds_per_request
    app.watch = LoopWatch(app.log, max(STUCK_SECONDS, STUCK_REQUESTS * seconds))
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(app.log)]
    root.setLevel(logging.INFO)


def _say_states(models: LoadedModels) -> None:
    for model in models.models.values():
        versions = [v for v in model.versions.values() if v.state != "not_served"]
        if not versions:
            _say(f"  {model.name}: {model.reason}")
        for version in versions:
            names = ", ".join((f"version {version.version}", *model.aliases_of(version.version)))
            reason = f": {version.reason}" if version.reason else ""
            _say(f"  {model.name} ({names}) {version.state}{reason}")


def _say_example(models: LoadedModels, url: str) -> None:
    contracts = contracts_of(models)
    if not contracts:
        _say("No model answers. Repair what is said above, then serve again.")
        return
    body = msgspec.json.encode(example_body(contracts[0])).decode()
    _say("Try:")
    _say(f"  curl -s {url}/v1/models/{contracts[0].name}/predict \\")
    _say(f"    -H 'Content-Type: application/json' -d {shlex.quote(body)}")


def _say(line: str) -> None:
    with suppress(OSError):  # a full disk for what it says is no reason to answer nobody
        print(line, file=sys.stderr, flush=True)
