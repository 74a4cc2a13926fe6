"""The predict endpoints as one ASGI callable: the busy path, without a framework around it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from functools import lru_cache

from starlette.types import Receive, Scope, Send

from model_service.contract.rows import ReadRows
from model_service.hooks import Hooks, Rejection
from model_service.serving.answered_request import AnsweredRequest
from model_service.serving.http_protocol import WHOLE_REQUEST
from model_service.serving.loaded_models import LoadedModels, Resolved
from model_service.serving.logs import LogWriter, request_line
from model_service.serving.metrics import Metrics
from model_service.serving.prediction import (
    Answered,
    Identifiers,
    outcome_of,
    predict,
)
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.problems import MEDIA_TYPE, ProblemError, RequestFault
from model_service.serving.request_body import (
    CLIENT_GONE,
    ClientGoneError,
    Head,
    read_body,
    read_head,
)
from model_service.serving.row_answers import RowAnswer, RowRefused
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
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_log = logging.getLogger(__name__)


class Target:
    """What a path asks for; `version` is a number, an alias, or None for the champion."""

    __slots__ = ("model", "route", "version")

    def __init__(self, model: str, version: str | None) -> None:
        self.model = model
        self.version = version
        self.route = CHAMPION_ROUTE if version is None else VERSION_ROUTE


def target_of(path: str) -> Target | None:
    """Return what a path asks for; None if it is no path of a predict endpoint."""
    return _read_target(path) if len(path) > LONGEST_PATH_KEPT else _kept_target(path)


def _read_target(path: str) -> Target | None:
    if not (path.startswith(_ROOT) and path.endswith(_END)):
        return None
    parts = path[len(_ROOT) : -len(_END)].split("/")
    if len(parts) == 1:
        return Target(parts[0], None)
    if len(parts) == 3 and parts[1] == "versions":
        return Target(parts[0], parts[2])
    return None


_kept_target = lru_cache(PATHS_KEPT)(_read_target)


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
        started = time.perf_counter()
        head = read_head(scope["headers"])
        head.whole = scope.get("state", {}).get(WHOLE_REQUEST)
        request_id = head.request_id or self._identifiers.next()
        resolved: Resolved | None = None
        answered: Answered | None = None
        models = self._loader.current
        routing = models.routings.get(target.model) if target.version is None else None
        try:
            resolved = _resolved(models, target)
            asked = await self._body(resolved, head, receive)
            if routing is not None:
                resolved = routing.choose(asked)
            answered = await predict(resolved, asked, request_id, self._identifiers)
        except ProblemError as error:
            problem = error
        except ClientGoneError:
            self._observe(target, request_id, CLIENT_GONE, started, resolved, "abandoned", None)
            return
        except Exception:  # noqa: BLE001 - the answer keeps its shape whatever happens
            _log.exception("unexpected error in a predict endpoint, request %s", request_id)
            problem = ProblemError("internal-error")
        rows: int | None = None
        kind: bytes = b"application/json"
        extra: Sequence[tuple[bytes, bytes]] = ()
        if answered is not None:
            status, body, outcome, rows = 200, answered.body, answered.outcome, answered.rows
        else:
            status, body, kind = problem.status, problem.encode(request_id), MEDIA_TYPE
            extra, outcome = problem.headers, outcome_of(problem.slug)
        whole = head.whole
        if status != 200 or whole is None or not whole.answer(send, kind, request_id, body):
            headers = [
                (b"content-type", kind),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode()),
                *extra,
            ]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        seconds = self._observe(target, request_id, status, started, resolved, outcome, rows)
        if resolved is None:
            return
        if answered is not None:
            read, answers, entity = answered.read, answered.answers, answered.entity
            self._record(resolved, request_id, entity, asked, read, answers, seconds)
            if routing is not None and routing.shadows:
                _offer(routing.shadows, request_id, asked, answered)
        elif problem.read is not None:
            self._record(resolved, request_id, None, b"", problem.read, (), seconds)
        if self._tells_rejections and outcome != "ok":
            slug = "rows-rejected" if answered is not None else problem.slug
            faults = _faults_of(answered) if answered is not None else problem.faults
            self._hooks.offer("on_rejection", _rejection(resolved, request_id, slug, faults))

    def _observe(
        self,
        target: Target,
        request_id: str,
        status: int,
        started: float,
        resolved: Resolved | None,
        outcome: str,
        rows: int | None,
    ) -> float:
        """Count and log a request; return the seconds that it took."""
        seconds = time.perf_counter() - started
        self._metrics.observe_http("POST", target.route, status, seconds)
        self._log.append(
            request_line(
                request_id=request_id,
                method="POST",
                route=target.route,
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
        resolved: Resolved,
        request_id: str,
        entity: str | None,
        sent: bytes,
        read: ReadRows,
        answers: Sequence[RowAnswer | RowRefused],
        seconds: float,
    ) -> None:
        loaded, alias, at = resolved.served.loaded, resolved.alias, time.time()
        self._recorder.append(
            AnsweredRequest(loaded, alias, request_id, entity, sent, read, answers, at, seconds)
        )

    async def _body(self, resolved: Resolved, head: Head, receive: Receive) -> bytes:
        limits = self._limits
        try:
            return await read_body(receive, head, limits.body_bytes, limits.seconds_per_request)
        except ProblemError:
            resolved.served.meters.outcomes["invalid_input"] += 1
            raise


def _resolved(models: LoadedModels, target: Target) -> Resolved:
    if not _NAME.match(target.model):
        raise ProblemError("model-not-found", "A model's name has letters, digits and _ only.")
    if target.version is not None and not _NAME.match(target.version):
        raise ProblemError("version-not-found", "A version is a number such as 1, or an alias.")
    return models.resolve(target.model, target.version)


def _rejection(
    resolved: Resolved, request_id: str, slug: str, faults: Sequence[RequestFault]
) -> Rejection:
    """Return what a hook hears; the name of a field that a caller made up is left out."""
    places = tuple(
        (f.pointer.rpartition("/")[0] if f.code == "unknown_field" else f.pointer, f.code)
        for f in faults
    )
    served = resolved.served
    return Rejection(time.time(), request_id, served.model, served.version, slug, places)


def _faults_of(answered: Answered) -> list[RequestFault]:
    refused = [row for row in answered.answers if isinstance(row, RowRefused)]
    return [fault for row in refused for fault in row.error.faults]


def _offer(shadows: Sequence[Shadow], request_id: str, body: bytes, answered: Answered) -> None:
    """Let shadows be asked what was answered; a row without an answer is None to them."""
    answers = [row if isinstance(row, RowAnswer) else None for row in answered.answers]
    for shadow in shadows:
        shadow.offer(Asked(request_id, body, answers))
