"""The HTTP door: which address does what. Everything that it needs is made in `create_app`."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_service.hooks import RESULTS, load_hooks
from model_service.repository import Repository
from model_service.serving.api_keys import ApiKeys
from model_service.serving.docs_page import index_page
from model_service.serving.documents import Documents, contracts_of
from model_service.serving.draining import drain_before_stopping
from model_service.serving.ground_truth_endpoint import GroundTruthEndpoint
from model_service.serving.http_protocol import WholeRequest
from model_service.serving.inference_protocol.endpoint import InferenceProtocol, is_below_root
from model_service.serving.loaded_models import LoadedModels
from model_service.serving.logs import LogWriter, notice_line, request_line
from model_service.serving.loop_watch import LoopWatch
from model_service.serving.metrics import CONTENT_TYPE, Metrics
from model_service.serving.model_descriptions import described, reason_of
from model_service.serving.predict_endpoint import (
    CHAMPION_ROUTE,
    VERSION_ROUTE,
    PredictEndpoint,
    plain_target_of,
    target_of,
)
from model_service.serving.prediction import LARGEST_BODY_READ_IN_LOOP
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.problems import MEDIA_TYPE, ProblemError, problem_of_status
from model_service.serving.request_body import CountedBody, LargeBodies, read_head
from model_service.serving.retention import Retention
from model_service.serving.row_answers import Identifiers
from model_service.serving.shared_numbers import Numbers
from model_service.serving.stub_callers import StubCallers, callers_file
from model_service.serving.stub_door import StubDoor
from model_service.serving.version_loader import VersionLoader
from model_service.serving.version_source import source_of
from model_service.settings import Settings

if TYPE_CHECKING:
    from model_service.serving.tracing import Tracing

SECONDS_BETWEEN_LOOKS = 0.2
"""At `traffic.yaml`; a change is followed at the second look that finds it."""
OBJECTS_BETWEEN_COLLECTIONS = 10_000
QUIET_ROUTES = ("/livez", "/readyz", "/metrics")
"""Routes that machines ask every few seconds; only their failures are logged."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OnLoaded = Callable[[LoadedModels], None]


def create_app(
    settings: Settings,
    repository: Repository,
    *,
    log_stream: IO[bytes] | None = None,
    on_loaded: OnLoaded | None = None,
    numbers: Numbers | None = None,
    tracing: Tracing | None = None,
) -> Starlette:
    """Return the service of a repository.

    Versions are loaded when the app starts up; until then it is alive and not ready. Log lines go
    to `log_stream` (standard output). `on_loaded` is called once, when loading is over. `numbers`
    are given to an app that counts together with others, `tracing` to one that is traced otherwise
    than `service.yaml` says.

    Raises:
        TrafficError: `traffic.yaml` cannot be read.
        HooksError: `hooks.py` cannot be loaded.
    """
    return Service(
        settings, repository, log_stream or sys.stdout.buffer, on_loaded, numbers, tracing
    )


class Service(Starlette):
    """A Starlette app whose predict endpoints are answered before any of its machinery."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        log_stream: IO[bytes],
        on_loaded: OnLoaded | None,
        numbers: Numbers | None,
        tracing: Tracing | None,
    ) -> None:
        self.settings = settings
        self.log = LogWriter(log_stream, settings.name)
        self.tracing = tracing or (_exported_tracing(settings.name) if settings.tracing else None)
        if self.tracing is not None:
            self.log.on_request = self.tracing.end
        self.is_draining = False
        self._on_loaded = on_loaded
        self.watch: LoopWatch | None = None
        self.hooks = load_hooks(repository.root, self._tell_of_fault)
        self.recorder = PredictionRecorder(settings, repository, self.log, self.hooks)
        self.loader = VersionLoader(
            settings,
            repository,
            source_of(settings, repository),
            lambda: self.metrics,
            self.log,
            self.recorder,
            self.hooks,
        )
        self.metrics = Metrics(
            lambda: self.loader.current.statuses(),
            lambda: self.loader.traffic_fault is None,
            lambda: self.is_draining,
            settings.slo,
            numbers,
        )
        self.metrics.mirror("log_lines_dropped", lambda: self.log.dropped)
        self.recorder.mirror_to(self.metrics)
        for name in self.hooks.names:
            for result in RESULTS:
                self.metrics.mirror(
                    "hook_calls", partial(self.hooks.count, name, result), name, result
                )
        self._identifiers = Identifiers()
        self._keys = ApiKeys(settings.api_keys, self.metrics)
        self._predict = PredictEndpoint(
            self.loader,
            settings.limits,
            self.metrics,
            self.log,
            self._identifiers,
            self.recorder,
            self.hooks,
        )
        self._tensors = InferenceProtocol(
            settings,
            self.loader,
            self.metrics,
            self.log,
            self._identifiers,
            self.recorder,
            lambda: self.is_draining,
            self.hooks,
        )
        self.retention = Retention(settings, repository, self.recorder.place, self._tell_of_fault)
        self.ground_truth = GroundTruthEndpoint(
            settings,
            repository,
            self.recorder.place,
            lambda: contracts_of(self.loader.current),
            self.hooks,
        )
        # A tracer follows tasks, and the stub's door stands before all that ASGI knows.
        is_plain = self.tracing is None and not settings.server.stub
        self.takes_whole = self._take_whole if is_plain else None
        self._large_bodies = LargeBodies(settings.limits.body_bytes)
        self._documents = Documents(settings)
        self._door: ASGIApp = self._answer
        self.stub_door: StubDoor | None = None
        if settings.server.stub:
            callers = StubCallers(callers_file(repository))
            self._door = self.stub_door = StubDoor(
                self._answer, callers, lambda: self.loader.current.models
            )
        super().__init__(
            routes=self._routes(),
            exception_handlers={
                ProblemError: _answer_problem,
                HTTPException: _answer_framework_error,
                Exception: _answer_unexpected,
            },
            lifespan=_lifespan,
        )
        self.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's question whether the app is up."""
        await (self._door if scope["type"] == "http" else super().__call__)(scope, receive, send)

    def _take_whole(self, request: WholeRequest) -> bool:
        """Answer a request to a predict endpoint; leave to ASGI what is no such, and what must be
        read in a thread."""
        target = plain_target_of(request.target)
        if target is None or len(request.body) > LARGEST_BODY_READ_IN_LOOP:
            return False
        head = read_head(request.headers)
        if head.encoding is not None or not self._keys.admits(request.headers):
            return False
        self._predict.answer_whole(target, head, request)
        return True

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.tracing is not None:
            self.tracing.begin(scope)
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root) if root else scope["path"]
        is_tensors = is_below_root(path)
        if not self._keys.may_ask(path, scope["headers"]):
            if is_tensors:
                await self._tensors.answer(path, scope, receive, send, _key_required())
            else:
                await self._observed(_refuse_without_key, scope, receive, send)
            return
        counted = CountedBody(self._large_bodies, receive)
        try:
            target = target_of(path) if scope["method"] == "POST" else None
            if target is not None:
                await self._predict.answer(target, scope, counted, send)
            elif is_tensors:
                await self._tensors.answer(path, scope, counted, send)
            else:
                await self._observed(super().__call__, scope, counted, send)
        finally:
            counted.release()

    def _tell_of_fault(self, text: str) -> None:
        self.log.append(notice_line("ERROR", text))

    async def load_and_follow(self) -> None:
        """Load every version that traffic.yaml names, in a thread, and follow its changes."""
        await asyncio.to_thread(self.loader.load)
        if self._on_loaded is not None:
            self._on_loaded(self.loader.current)
        loop, settled_at = asyncio.get_running_loop(), 0.0
        while True:
            if self.watch is not None and loop.time() >= settled_at:
                set_aside_what_stays()
                settled_at = float("inf")
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            if await asyncio.to_thread(self.loader.follow):
                # By then nobody waits for an answer of a version that is served no more.
                settled_at = loop.time() + self.settings.limits.seconds_per_request
            self.metrics.refresh()

    async def _observed(self, answer: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `answer` do it, and add a request id, a metric and a log line."""
        started = time.perf_counter()
        request_id = read_head(scope["headers"]).request_id or self._identifiers.next()
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await answer(scope, receive, send_with_id)
        finally:
            self._observe(scope, request_id, status, time.perf_counter() - started)

    def _observe(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = _template_of(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.observe_http(method, route, status, seconds)
        if route not in QUIET_ROUTES or status >= 400:
            self.log.append(
                request_line(
                    request_id=request_id,
                    method=method,
                    route=route,
                    status=status,
                    seconds=seconds,
                )
            )

    def _routes(self) -> list[Route]:
        return [
            _Get("/", self._index),
            _Get("/docs", self._docs),
            _Get("/openapi.json", self._openapi),
            _Get("/v1/models", self._models),
            _Get("/v1/models/{model}", self._model),
            Route("/v1/ground-truth", self._ground_truth, methods=["POST"]),
            _Get("/livez", self._livez),
            _Get("/readyz", self._readyz),
            _Get("/metrics", self._metrics_text),
            # Answered before routing; these make the framework refuse the other methods.
            Route(CHAMPION_ROUTE, _unreachable, methods=["POST"]),
            Route(VERSION_ROUTE, _unreachable, methods=["POST"]),
        ]

    async def _index(self, _: Request) -> Response:
        return HTMLResponse(index_page(self.settings, self.loader.current))

    async def _docs(self, _: Request) -> Response:
        return HTMLResponse(self._documents.page(self.loader.current))

    async def _openapi(self, _: Request) -> Response:
        return Response(self._documents.openapi(self.loader.current), media_type="application/json")

    async def _models(self, _: Request) -> Response:
        models = self.loader.current.models.values()
        listed = [described(model) for model in models]
        return _json({"traffic_fault": self.loader.traffic_fault, "models": listed})

    async def _model(self, request: Request) -> Response:
        return _json(described(self.loader.current.find(request.path_params["model"])))

    async def _ground_truth(self, request: Request) -> Response:
        return await self.ground_truth(request)

    async def _livez(self, _: Request) -> Response:
        return _json({"status": "live"})

    async def _readyz(self, _: Request) -> Response:
        models = self.loader.current
        states = {
            name: {"state": model.state, "reason": reason_of(model)}
            for name, model in models.models.items()
        }
        if self.is_draining:
            raise ProblemError("model-not-ready", "The service is stopping; ask another replica.")
        if models.is_ready:
            return _json({"status": "ready", "models": states})
        held = ", ".join(f"{m.name} is {m.state}" for m in models.models.values() if m.holds_back)
        raise ProblemError(
            "model-not-ready",
            f"The service is not ready: {held or 'no model has a champion'}. "
            "GET /v1/models says why.",
        )

    async def _metrics_text(self, _: Request) -> Response:
        return Response(self.metrics.exposition(), headers={"content-type": CONTENT_TYPE.decode()})


class _Get(Route):
    """A route for GET and HEAD."""

    def __init__(self, path: str, answer: Callable[[Request], Awaitable[Response]]) -> None:
        super().__init__(path, answer, methods=["GET"])


@asynccontextmanager
async def _lifespan(app: Service) -> AsyncIterator[None]:
    app.log.start()
    app.recorder.start()
    app.retention.start()
    drain_before_stopping(app)
    if app.watch is not None:
        app.watch.start()
    loading = asyncio.create_task(app.load_and_follow())
    try:
        yield
    finally:
        if not loading.done():
            loading.cancel()
        if app.watch is not None:
            app.watch.stop()
        app.loader.close()
        if app.stub_door is not None:
            app.stub_door.close()
        app.retention.stop()
        await asyncio.to_thread(app.recorder.stop)
        app.ground_truth.close()
        await asyncio.to_thread(app.hooks.wait, 2.0)
        if app.tracing is not None:
            await asyncio.to_thread(app.tracing.close)
        app.log.stop()


def set_aside_what_stays() -> None:
    """Let the collector of cycles leave alone what is loaded now, after it has collected what was
    loaded before and is gone.

    It walked through modules and models again and again, for a sixth of the event loop's time.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])


def _exported_tracing(service: str) -> Tracing:
    from model_service.serving.tracing import exporting

    return exporting(service)


async def _unreachable(_: Request) -> Response:
    raise ProblemError("internal-error")


def _key_required() -> ProblemError:
    return ProblemError("key-required", headers=((b"www-authenticate", b"Bearer"),))


async def _refuse_without_key(scope: Scope, receive: Receive, send: Send) -> None:
    answer = await _answer_problem(Request(scope), _key_required())
    await answer(scope, receive, send)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    headers = {name.decode(): value.decode() for name, value in error.headers}
    headers["content-type"] = MEDIA_TYPE.decode()
    return Response(error.encode(request.state.request_id), error.status, headers)


async def _answer_framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    allowed = headers.get("Allow") or headers.get("allow")
    detail = f"Allowed at this address: {allowed}." if allowed else ""
    return await _answer_problem(request, problem_of_status(error.status_code, detail, headers))


async def _answer_unexpected(request: Request, _: Exception) -> Response:
    return await _answer_problem(request, ProblemError("internal-error"))


def _template_of(scope: Scope) -> str:
    """Return the route's template; never the path, which a caller makes up."""
    endpoint = scope.get("endpoint")
    for route in scope["app"].routes if "app" in scope else ():
        if endpoint is not None and route.endpoint == endpoint:
            return str(route.path)
    return "unmatched"


def _json(content: Mapping[str, Any]) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
