"""The addresses below `/v2`: health, metadata, inference, repository and statistics.

Every layer answers an error as `{"error": "…"}`, which is all that clients of the protocol read.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from model_service.hooks import Hooks, Rejection
from model_service.serving.answered_request import AnsweredRequest
from model_service.serving.http_protocol import WHOLE_BODY
from model_service.serving.inference_protocol.inference import (
    Inferred,
    described_inputs,
    described_outputs,
    infer,
)
from model_service.serving.inference_protocol.messages import entity_of
from model_service.serving.loaded_models import (
    ModelState,
    Resolved,
    ServedVersion,
    VersionState,
)
from model_service.serving.logs import LogWriter, request_line
from model_service.serving.metrics import Metrics
from model_service.serving.prediction import outcome_of
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.problems import ProblemError
from model_service.serving.request_body import (
    CLIENT_GONE,
    ClientGoneError,
    Head,
    read_body,
    read_head,
)
from model_service.serving.row_answers import Identifiers, RowAnswer
from model_service.serving.shadow import Asked, Shadow
from model_service.serving.version_loader import VersionLoader
from model_service.settings import Settings

ROOT = "/v2"
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_MODEL = rf"(?:/models/(?P<model>{_NAME})(?:/versions/(?P<version>{_NAME}))?)"
_STATE = {"ready": "READY", "loading": "LOADING", "failed": "UNAVAILABLE"}
_HOW_TO_CHANGE = "What this service answers with is decided by traffic.yaml, which it follows."
_log = logging.getLogger(__name__)


class _Asked(msgspec.Struct):
    """A request, and what became of it."""

    model: str | None
    version: str | None
    request_id: str
    head: Head
    json_length: bytes | None
    receive: Receive
    body: bytes | None
    resolved: Resolved | None = None
    answered: AnsweredRequest | None = None
    shadows: Sequence[Shadow] = ()


class _Answer(msgspec.Struct):
    body: bytes
    status: int = 200
    kind: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


class _Route(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    template: str
    method: str
    name: str


def _route(method: str, pattern: str, template: str, name: str) -> _Route:
    return _Route(re.compile(ROOT + pattern + r"\Z"), ROOT + template, method, name)


_ROUTES = (
    _route("POST", rf"{_MODEL}/infer", "/models/{model}/infer", "infer"),
    _route("GET", "/?", "", "server"),
    _route("GET", "/health/live", "/health/live", "live"),
    _route("GET", "/health/ready", "/health/ready", "ready"),
    _route("GET", r"/models/stats", "/models/stats", "statistics"),
    _route("GET", rf"{_MODEL}/stats", "/models/{model}/stats", "statistics"),
    _route("GET", rf"{_MODEL}/ready", "/models/{model}/ready", "model_ready"),
    _route("GET", _MODEL, "/models/{model}", "metadata"),
    _route("POST", "/repository/index", "/repository/index", "index"),
    _route(
        "POST",
        rf"/repository/models/(?P<model>{_NAME})/load",
        "/repository/models/{model}/load",
        "load",
    ),
    _route(
        "POST",
        rf"/repository/models/(?P<model>{_NAME})/unload",
        "/repository/models/{model}/unload",
        "unload",
    ),
)


class InferenceProtocol:
    """Answers everything below `/v2`."""

    def __init__(
        self,
        settings: Settings,
        loader: VersionLoader,
        metrics: Metrics,
        log: LogWriter,
        identifiers: Identifiers,
        recorder: PredictionRecorder,
        is_draining: Callable[[], bool],
        hooks: Hooks,
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._metrics = metrics
        self._log = log
        self._identifiers = identifiers
        self._recorder = recorder
        self._is_draining = is_draining
        self._hooks = hooks

    async def answer(
        self,
        path: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        refused: ProblemError | None = None,
    ) -> None:
        """Answer one request, or refuse it in the protocol's shape."""
        started = time.perf_counter()
        head = read_head(scope["headers"])
        request_id = head.request_id or self._identifiers.next()
        here = scope.get("state", {}).get(WHOLE_BODY)
        asked = _Asked(None, None, request_id, head, _json_length(scope), receive, here)
        route, outcome = "unmatched", "ok"
        try:
            found = _found(scope["method"], path, asked, refused)
            route = found.template
            answer = await getattr(self, f"_{found.name}")(asked)
        except ProblemError as problem:
            answer, outcome = _refusal(problem), outcome_of(problem.slug)
            self._tell_refused(asked, problem, started)
        except ClientGoneError:
            self._observe(scope["method"], route, CLIENT_GONE, "abandoned", asked, started)
            return
        except Exception:  # noqa: BLE001 - the answer keeps its shape whatever happens
            _log.exception("unexpected error below /v2, request %s", request_id)
            answer, outcome = _refusal(ProblemError("internal-error")), "model_error"
        headers = [
            (b"content-type", answer.kind),
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-request-id", request_id.encode()),
            *answer.headers,
        ]
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})
        self._observe(scope["method"], route, answer.status, outcome, asked, started)
        if asked.answered is not None and asked.shadows:
            _offer(asked.shadows, asked.answered)

    def _observe(
        self, method: str, route: str, status: int, outcome: str, asked: _Asked, started: float
    ) -> None:
        seconds = time.perf_counter() - started
        method = method if method in ("GET", "POST") else "other"
        self._metrics.observe_http(method, route, status, seconds)
        served = asked.resolved.served if asked.resolved else None
        if "/health/" in route and status < 400:
            return
        self._log.append(
            request_line(
                request_id=asked.request_id,
                method=method,
                route=route,
                status=status,
                seconds=seconds,
                model=served.model if served else None,
                version=served.version if served else None,
                alias=asked.resolved.alias if asked.resolved else None,
                outcome=outcome,
                rows=asked.answered.read.count if asked.answered else None,
            )
        )

    async def _infer(self, asked: _Asked) -> _Answer:
        models = self._loader.current
        asked.resolved = models.resolve(asked.model or "", asked.version)
        try:
            body = await self._body(asked)
        except ProblemError as problem:
            asked.resolved.served.meters.outcomes[outcome_of(problem.slug)] += 1
            raise
        routing = models.routings.get(asked.model or "") if asked.version is None else None
        if routing is not None:
            asked.resolved = routing.choose_for(entity_of(body, asked.json_length))
            asked.shadows = routing.shadows
        inferred: Inferred = await infer(asked.resolved, body, asked.json_length, asked.request_id)
        asked.answered = inferred.answered
        self._recorder.append(inferred.answered)
        if inferred.json_length is None:
            return _Answer(inferred.body)
        length = (b"inference-header-content-length", b"%d" % inferred.json_length)
        return _Answer(inferred.body, kind=b"application/octet-stream", headers=(length,))

    def _tell_refused(self, asked: _Asked, problem: ProblemError, started: float) -> None:
        if asked.resolved is None:
            return
        loaded, alias = asked.resolved.served.loaded, asked.resolved.alias
        at, seconds = time.time(), time.perf_counter() - started
        places = tuple((fault.pointer, fault.code) for fault in problem.faults)
        told = Rejection(at, asked.request_id, loaded.model, loaded.version, problem.slug, places)
        self._hooks.offer("on_rejection", told)
        if problem.read is None:
            return
        self._recorder.append(
            AnsweredRequest(
                loaded, alias, asked.request_id, None, (), problem.read, (), at, seconds
            )
        )

    async def _server(self, _: _Asked) -> _Answer:
        return _json({"name": self._settings.name, "version": "2", "extensions": EXTENSIONS})

    async def _live(self, _: _Asked) -> _Answer:
        return _json({"live": True})

    async def _ready(self, _: _Asked) -> _Answer:
        ready = self._loader.current.is_ready and not self._is_draining()
        return _json({"live": True, "ready": ready}, 200 if ready else 503)

    async def _model_ready(self, asked: _Asked) -> _Answer:
        resolved = self._resolved(asked)
        return _json({"name": resolved.served.model, "ready": True})

    async def _metadata(self, asked: _Asked) -> _Answer:
        served = self._resolved(asked).served
        contract = served.loaded.contract
        states = self._loader.current.find(served.model).versions.values()
        return _json(
            {
                "name": served.model,
                "versions": [state.version for state in states if state.served],
                "platform": served.loaded.manifest.format,
                "inputs": described_inputs(contract),
                "outputs": described_outputs(contract),
            }
        )

    async def _statistics(self, asked: _Asked) -> _Answer:
        if asked.model is not None:
            wanted = [self._resolved(asked).served]
        else:
            wanted = [state.served for _, state in self._states() if state.served]
        return _json({"model_stats": [self._counted(served) for served in wanted]})

    async def _index(self, asked: _Asked) -> _Answer:
        body = await self._small_body(asked)
        only_ready = body.get("ready") is True
        listed = [
            {
                "name": model.name,
                "version": state.version,
                "state": _STATE[state.state],
                "reason": state.reason or "",
            }
            for model, state in self._states()
            if state.state in _STATE and (state.state == "ready" or not only_ready)
        ]
        return _json(listed)

    async def _load(self, asked: _Asked) -> _Answer:
        body = await self._small_body(asked)
        if body.get("parameters"):
            raise ProblemError(
                "invalid-request", f"A model is not loaded from a request. {_HOW_TO_CHANGE}"
            )
        self._resolved(asked)
        return _Answer(b"")

    async def _unload(self, asked: _Asked) -> _Answer:
        self._loader.current.find(asked.model or "")
        raise ProblemError("invalid-request", f"Nothing is unloaded here. {_HOW_TO_CHANGE}")

    def _resolved(self, asked: _Asked) -> Resolved:
        return self._loader.current.resolve(asked.model or "", asked.version)

    def _counted(self, served: ServedVersion) -> dict[str, Any]:
        rows, seconds = self._metrics.answered_by(served.model, served.version)
        answered = int(rows.pop("ok"))
        return {
            "name": served.model,
            "version": served.version,
            "inference_count": answered,
            "inference_stats": {
                "success": {"count": answered, "ns": round(seconds * 1e9)},
                "fail": {"count": int(sum(rows.values())), "ns": 0},
            },
            "batch_stats": [],
        }

    def _states(self) -> Iterator[tuple[ModelState, VersionState]]:
        for model in self._loader.current.models.values():
            for state in model.versions.values():
                yield model, state

    async def _body(self, asked: _Asked) -> bytes:
        limits = self._settings.limits
        head = msgspec.structs.replace(asked.head, content_type=None)  # clients send any, or none
        return await read_body(
            asked.receive, head, limits.body_bytes, limits.seconds_per_request, asked.body
        )

    async def _small_body(self, asked: _Asked) -> dict[str, Any]:
        """Return the body of a repository call, which most clients leave out."""
        if asked.head.length in (None, b"0"):
            return {}
        content = await self._body(asked)
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise ProblemError("invalid-request", "Send a JSON object, or no body.") from None


def is_below_root(path: str) -> bool:
    """Return whether a path is answered here."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def _found(method: str, path: str, asked: _Asked, refused: ProblemError | None) -> _Route:
    if refused is not None:
        raise refused
    allowed = []
    for route in _ROUTES:
        match = route.pattern.match(path)
        if match is None:
            continue
        if route.method == method:
            groups = match.groupdict()
            asked.model, asked.version = groups.get("model"), groups.get("version")
            return route
        allowed.append(route.method)
    if allowed:
        listed = ", ".join(dict.fromkeys(allowed))
        raise ProblemError(
            "method-not-allowed",
            f"Allowed at this address: {listed}.",
            headers=((b"allow", listed.encode()),),
        )
    raise ProblemError("not-found", "The Open Inference Protocol has no such address.")


def _offer(shadows: Sequence[Shadow], answered: AnsweredRequest) -> None:
    """Let shadows be asked what was answered, as a request of `/v1`."""
    body = msgspec.json.encode({"rows": answered.sent, "entity": answered.entity})
    answers = [row if isinstance(row, RowAnswer) else None for row in answered.rows]
    for shadow in shadows:
        shadow.offer(Asked(answered.request_id, body, answers))


def _json_length(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"inference-header-content-length":
            return bytes(value)
    return None


def _json(content: Any, status: int = 200) -> _Answer:
    return _Answer(msgspec.json.encode(content), status)


def _refusal(problem: ProblemError) -> _Answer:
    # The protocol knows 422 for nothing; what a contract refuses is a bad request.
    status = 400 if problem.status == 422 else problem.status
    return _Answer(msgspec.json.encode({"error": problem.detail}), status, headers=problem.headers)
