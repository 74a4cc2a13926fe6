"""The predict endpoints as one ASGI callable: the busy path, without a framework around it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from functools import lru_cache, partial

import msgspec
from starlette.types import Receive, Scope, Send

from model_service.contract.rows import ReadRows
from model_service.hooks import Hooks, Rejection
from model_service.serving.answered_request import AnsweredRequest
from model_service.serving.batcher import Answers, QueueFullError
from model_service.serving.http_protocol import WHOLE_BODY, WholeRequest
from model_service.serving.loaded_models import LoadedModels, Resolved
from model_service.serving.logs import LogWriter, request_line
from model_service.serving.metrics import Metrics
from model_service.serving.prediction import (
    Answered,
    PendingPrediction,
    answer_of,
    ask,
    outcome_of,
    predict,
    too_late,
    too_many_wait,
)
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.problems import MEDIA_TYPE, ProblemError, RequestFault
from model_service.serving.request_body import (
    CLIENT_GONE,
    ClientGoneError,
    Head,
    read_body,
    read_head,
    whole_body,
)
from model_service.serving.routing import Routing
from model_service.serving.row_answers import Identifiers, RowAnswer, RowRefused
from model_service.serving.shadow import Asked, Shadow
from model_service.serving.version_loader import VersionLoader
from model_service.settings import Limits

CHAMPION_ROUTE = "/v1/models/{model}/predict"
VERSION_ROUTE = "/v1/models/{model}/versions/{version}/predict"
PATHS_KEPT = 512
LONGEST_PATH_KEPT = 256
"""Callers choose paths: what is remembered of them stays small."""
_ROOT = "/v1/models/"
_END = "/predict"
_PLAIN = re.compile(rb"[A-Za-z0-9_./-]+\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_log = logging.getLogger(__name__)


class Target:
    """What a path asks for; `version` is a number, an alias, or None for the champion. Names that
    are not `is_named_well` are not looked up."""

    __slots__ = ("is_named_well", "model", "route", "version")

    def __init__(self, model: str, version: str | None) -> None:
        self.model = model
        self.version = version
        self.route = CHAMPION_ROUTE if version is None else VERSION_ROUTE
        self.is_named_well = all(_NAME.match(name) for name in (model, version) if name is not None)


def target_of(path: str) -> Target | None:
    """Return what a path asks for; None if it is no path of a predict endpoint."""
    return _read_target(path) if len(path) > LONGEST_PATH_KEPT else _kept_target(path)


def plain_target_of(sent: bytes) -> Target | None:
    """Return what the target of a request asks for; None as well if it is no plain path, such as
    one with a query or with encoded characters."""
    return _kept_plain_target(sent) if len(sent) <= LONGEST_PATH_KEPT else None


def _read_target(path: str) -> Target | None:
    if not (path.startswith(_ROOT) and path.endswith(_END)):
        return None
    parts = path[len(_ROOT) : -len(_END)].split("/")
    if len(parts) == 1:
        return Target(parts[0], None)
    if len(parts) == 3 and parts[1] == "versions":
        return Target(parts[0], parts[2])
    return None


def _read_plain_target(sent: bytes) -> Target | None:
    return _read_target(sent.decode()) if _PLAIN.match(sent) else None


_kept_target = lru_cache(PATHS_KEPT)(_read_target)
_kept_plain_target = lru_cache(PATHS_KEPT)(_read_plain_target)


class _Call(msgspec.Struct, gc=False):
    """A request to a predict endpoint, and what is known of it so far."""

    target: Target
    head: Head
    request_id: str
    started: float
    resolved: Resolved | None = None
    routing: Routing[Resolved] | None = None
    body: bytes = b""
    pending: PendingPrediction | None = None


class _Reply(msgspec.Struct, gc=False):
    """What is sent, and what the log says of it."""

    status: int
    kind: bytes
    body: bytes
    outcome: str
    headers: Sequence[tuple[bytes, bytes]] = ()
    rows: int | None = None


class PredictEndpoint:
    """Answers `POST …/predict`: reads, resolves, predicts, sends, then counts and logs."""

    def __init__(
        self,
        loader: VersionLoader,
        limits: Limits,
        metrics: Metrics,
        log: LogWriter,
        identifiers: Identifiers,
        recorder: PredictionRecorder,
        hooks: Hooks,
    ) -> None:
        self._loader = loader
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._identifiers = identifiers
        self._recorder = recorder
        self._hooks = hooks
        self._tells_rejections = hooks.wants("on_rejection")

    async def answer(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Whatever happens, the answer has the service's own shape."""
        call = self._call(target, read_head(scope["headers"]))
        result: Answered | ProblemError
        try:
            resolved = self._resolve(call)
            here = scope.get("state", {}).get(WHOLE_BODY)
            resolved = self._take(call, await self._body(resolved, call.head, receive, here))
            result = await predict(resolved, call.body, call.request_id)
        except ProblemError as error:
            result = error
        except ClientGoneError:
            self._observe(call, CLIENT_GONE, "abandoned", None)
            return
        except Exception:  # noqa: BLE001 - the answer keeps its shape whatever happens
            result = _unexpected(call)
        reply = _reply_of(call, result)
        headers = [
            (b"content-type", reply.kind),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", call.request_id.encode()),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        self._tell(call, reply, result)

    def answer_whole(self, target: Target, head: Head, request: WholeRequest) -> None:
        """Answer a request that is here with its body, as `answer` does, but without a task: one of
        a single row costs half of it. Never raises."""
        call = self._call(target, head)
        try:
            resolved = self._resolve(call)
            body = self._whole_body(resolved, call.head, request.body)
            resolved = self._take(call, body)
            call.pending = ask(resolved, body, call.request_id)
            on_answers = partial(self._conclude, call, request)
            resolved.served.batcher.ask(call.pending.read.values, on_answers)
        except QueueFullError:
            assert call.pending is not None
            problem = too_many_wait(call.pending.resolved.served, call.pending.read)
            self._reply(call, request, problem)
        except ProblemError as error:
            self._reply(call, request, error)
        except Exception:  # noqa: BLE001 - the answer keeps its shape whatever happens
            self._reply(call, request, _unexpected(call))

    def _conclude(self, call: _Call, request: WholeRequest, answers: Answers | None) -> None:
        """Answer a request to which the model has answered, or (None) has not in time."""
        pending = call.pending
        assert pending is not None
        result: Answered | ProblemError
        try:
            if answers is None:
                result = too_late(pending.resolved.served, pending.read)
            else:
                result = answer_of(pending, answers)
        except ProblemError as error:
            result = error
        except Exception:  # noqa: BLE001 - the answer keeps its shape whatever happens
            result = _unexpected(call)
        self._reply(call, request, result)

    def _reply(self, call: _Call, request: WholeRequest, result: Answered | ProblemError) -> None:
        reply = _reply_of(call, result)
        request.answer(reply.status, reply.kind, call.request_id, reply.body, reply.headers)
        try:
            self._tell(call, reply, result)
        except Exception:  # noqa: BLE001 - its neighbours in the batch wait for their answers
            _log.exception("an answered request is not told of, request %s", call.request_id)

    def _call(self, target: Target, head: Head) -> _Call:
        request_id = head.request_id or self._identifiers.next()
        return _Call(target, head, request_id, time.perf_counter())

    def _resolve(self, call: _Call) -> Resolved:
        models, target = self._loader.current, call.target
        if target.version is None:
            call.routing = models.routings.get(target.model)
        call.resolved = _resolved(models, target)
        return call.resolved

    def _take(self, call: _Call, body: bytes) -> Resolved:
        """Take the body, which may say who answers."""
        call.body = body
        if call.routing is not None:
            call.resolved = call.routing.choose(body)
        assert call.resolved is not None
        return call.resolved

    def _tell(self, call: _Call, reply: _Reply, result: Answered | ProblemError) -> None:
        """Tell metrics, logs, shadows and hooks of an answered request."""
        seconds = self._observe(call, reply.status, reply.outcome, reply.rows)
        resolved = call.resolved
        if resolved is None:
            return
        if isinstance(result, Answered):
            self._record(call, resolved, result.entity, result.read, result.answers, seconds)
            if call.routing is not None and call.routing.shadows:
                _offer(call.routing.shadows, call.request_id, call.body, result)
        elif result.read is not None:
            self._record(call, resolved, None, result.read, (), seconds)
        if self._tells_rejections and reply.outcome != "ok":
            self._hooks.offer("on_rejection", _rejection(call, resolved, result))

    def _observe(self, call: _Call, status: int, outcome: str, rows: int | None) -> float:
        """Count and log a request; return the seconds that it took."""
        seconds = time.perf_counter() - call.started
        route, resolved = call.target.route, call.resolved
        self._metrics.observe_http("POST", route, status, seconds)
        self._log.append(
            request_line(
                request_id=call.request_id,
                method="POST",
                route=route,
                status=status,
                seconds=seconds,
                model=resolved.served.model if resolved else None,
                version=resolved.served.version if resolved else None,
                alias=resolved.alias if resolved else None,
                outcome=outcome,
                rows=rows,
            )
        )
        return seconds

    def _record(
        self,
        call: _Call,
        resolved: Resolved,
        entity: str | None,
        read: ReadRows,
        answers: Sequence[RowAnswer | RowRefused],
        seconds: float,
    ) -> None:
        self._recorder.append(
            AnsweredRequest(
                resolved.served.loaded,
                resolved.alias,
                call.request_id,
                entity,
                call.body if read.warnings and answers else b"",
                read,
                answers,
                time.time(),
                seconds,
                body_bytes=len(call.body) if answers else 0,
            )
        )

    async def _body(
        self, resolved: Resolved, head: Head, receive: Receive, here: bytes | None
    ) -> bytes:
        limits = self._limits
        try:
            return await read_body(
                receive, head, limits.body_bytes, limits.seconds_per_request, here
            )
        except ProblemError as problem:
            resolved.served.meters.outcomes[outcome_of(problem.slug)] += 1
            raise

    def _whole_body(self, resolved: Resolved, head: Head, body: bytes) -> bytes:
        try:
            return whole_body(head, body, self._limits.body_bytes)
        except ProblemError as problem:
            resolved.served.meters.outcomes[outcome_of(problem.slug)] += 1
            raise


def _reply_of(call: _Call, result: Answered | ProblemError) -> _Reply:
    if isinstance(result, Answered):
        return _Reply(200, b"application/json", result.body, result.outcome, rows=result.rows)
    body = result.encode(call.request_id)
    return _Reply(result.status, MEDIA_TYPE, body, outcome_of(result.slug), result.headers)


def _unexpected(call: _Call) -> ProblemError:
    _log.exception("unexpected error in a predict endpoint, request %s", call.request_id)
    return ProblemError("internal-error")


def _resolved(models: LoadedModels, target: Target) -> Resolved:
    if not target.is_named_well:
        if not _NAME.match(target.model):
            raise ProblemError("model-not-found", "A model's name has letters, digits and _ only.")
        raise ProblemError("version-not-found", "A version is a number such as 1, or an alias.")
    return models.resolve(target.model, target.version)


def _rejection(call: _Call, resolved: Resolved, result: Answered | ProblemError) -> Rejection:
    """Return what a hook hears; the name of a field that a caller made up is left out."""
    if isinstance(result, Answered):
        slug, faults = "rows-rejected", _faults_of(result)
    else:
        slug, faults = result.slug, result.faults
    places = tuple(
        (f.pointer.rpartition("/")[0] if f.code == "unknown_field" else f.pointer, f.code)
        for f in faults
    )
    served = resolved.served
    return Rejection(time.time(), call.request_id, served.model, served.version, slug, places)


def _faults_of(answered: Answered) -> Sequence[RequestFault]:
    refused = [row for row in answered.answers if isinstance(row, RowRefused)]
    return [fault for row in refused for fault in row.error.faults]


def _offer(shadows: Sequence[Shadow], request_id: str, body: bytes, answered: Answered) -> None:
    """Let shadows be asked what was answered; a row without an answer is None to them."""
    answers = [row if isinstance(row, RowAnswer) else None for row in answered.answers]
    for shadow in shadows:
        shadow.offer(Asked(request_id, body, answers))
