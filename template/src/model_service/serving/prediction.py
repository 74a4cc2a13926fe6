"""The path of a prediction, without HTTP: read rows, batch, predict, answer, observe.

Identity (model, version, alias) comes from the resolved version only, never from the request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from model_service.contract.rows import BodyError, Fault, ReadRows
from model_service.contract.value_check import feature_in
from model_service.serving.batcher import Answers, DeadlineError, QueueFullError
from model_service.serving.loaded_models import Resolved, ServedVersion
from model_service.serving.metrics import VersionMeters
from model_service.serving.problems import PROBLEMS, ProblemError, RequestFault, type_of
from model_service.serving.row_answers import RowAnswer, RowProblem, RowRefused

LARGEST_BODY_READ_IN_LOOP = 256 * 1024
"""A larger body is read in a thread, so that the event loop stays free."""

_OUTCOMES = {
    "rows-rejected": "invalid_input",
    "model-failed": "model_error",
    "queue-full": "shed",
    "deadline-exceeded": "timeout",
}
_SLUG_OF_CODE = {"too_many_rows": "too-many-rows", "invalid_json": "invalid-json"}
_encode = msgspec.json.Encoder().encode


class PredictionAnswer(msgspec.Struct, gc=False):
    """The body of an answer; `rows` stand in the order of the request."""

    model: str
    version: str
    alias: str | None
    request_id: str
    rows: Sequence[RowAnswer | RowRefused]


class PendingPrediction(msgspec.Struct, gc=False):
    """A request whose rows were read, at least one of them right by the contract, and which waits
    for the model. The moments are those of `time.perf_counter`."""

    resolved: Resolved
    request_id: str
    read: ReadRows
    entity: str | None
    started: float
    read_at: float


class Answered(msgspec.Struct, gc=False):
    """An encoded answer, what the log says of it, and what was read and answered by row."""

    body: bytes
    outcome: str
    rows: int
    answers: Sequence[RowAnswer | RowRefused]
    read: ReadRows
    entity: str | None


def outcome_of(slug: str) -> str:
    """Return the outcome that the log and the metrics give to a problem."""
    return _OUTCOMES.get(slug, "invalid_input" if PROBLEMS[slug].status < 500 else "model_error")


async def predict(resolved: Resolved, body: bytes, request_id: str) -> Answered:
    """Answer one request that was resolved to a version.

    Raises:
        ProblemError: no row has an answer.
    """
    started = time.perf_counter()
    read_body = resolved.served.loaded.reader.read_body
    try:
        if len(body) > LARGEST_BODY_READ_IN_LOOP:
            given = await asyncio.to_thread(read_body, body)
        else:
            given = read_body(body)
    except BodyError as error:
        raise _unreadable(resolved.served, error) from None
    pending = _pending(resolved, request_id, started, *given)
    return answer_of(pending, await answers_of(resolved.served, pending.read))


def ask(resolved: Resolved, body: bytes, request_id: str) -> PendingPrediction:
    """Read the rows of a request that was resolved to a version.

    Raises:
        ProblemError: there is no row that the model may answer.
    """
    started = time.perf_counter()
    try:
        given = resolved.served.loaded.reader.read_body(body)
    except BodyError as error:
        raise _unreadable(resolved.served, error) from None
    return _pending(resolved, request_id, started, *given)


def _pending(
    resolved: Resolved, request_id: str, started: float, read: ReadRows, entity: str | None
) -> PendingPrediction:
    meters = resolved.served.meters
    if read.warnings or read.faults:
        count_problems(meters, read)
    if not read.values:
        meters.outcomes["invalid_input"] += read.count
        raise _rejected(read)
    return PendingPrediction(resolved, request_id, read, entity, started, time.perf_counter())


def answer_of(pending: PendingPrediction, answers: Answers) -> Answered:
    """Return what a request is answered, now that the model has.

    Raises:
        ProblemError: no row has an answer.
    """
    served, read = pending.resolved.served, pending.read
    meters = served.meters
    answered_at = time.perf_counter()
    rows = answers_by_row(read, answers)
    failed = len(answers.failures)
    meters.outcomes["ok"] += len(read.values) - failed
    if not read.faults and not failed:
        outcome = "ok"
    else:
        meters.outcomes["invalid_input"] += len(read.faults)
        meters.outcomes["model_error"] += failed
        if failed == len(read.values):
            meters.seconds.observe(answered_at - pending.started)
            raise _failed(rows, read)
        outcome = "partial"
    alias, request_id = pending.resolved.alias, pending.request_id
    answer = PredictionAnswer(served.model, served.version, alias, request_id, rows)
    encoded = _encode(answer)
    ended = time.perf_counter()
    meters.seconds.observe(ended - pending.started)
    meters.observe_stages(pending.started, pending.read_at, answered_at, ended, answers.seconds)
    return Answered(encoded, outcome, read.count, rows, read, pending.entity)


def _unreadable(served: ServedVersion, error: BodyError) -> ProblemError:
    served.meters.outcomes["invalid_input"] += 1
    slug = _SLUG_OF_CODE.get(error.code, "invalid-request")
    fault = RequestFault(error.pointer, error.code, error.message)
    return ProblemError(slug, error.message, faults=(fault,))


async def answers_of(served: ServedVersion, read: ReadRows) -> Answers:
    """Let the version answer the rows that were accepted.

    Raises:
        ProblemError: too many rows wait, or the answer takes too long.
    """
    try:
        return await served.batcher.submit(read.values)
    except QueueFullError:
        raise too_many_wait(served, read) from None
    except DeadlineError:
        raise too_late(served, read) from None


def too_many_wait(served: ServedVersion, read: ReadRows) -> ProblemError:
    """Return why rows are not taken, and count them."""
    served.meters.outcomes["shed"] += read.count
    return ProblemError(
        "queue-full",
        f"Too many rows wait for {served.model}. Wait a second, then send again.",
        headers=((b"retry-after", b"1"),),
    )


def too_late(served: ServedVersion, read: ReadRows) -> ProblemError:
    """Return why rows that were taken have no answer, and count them."""
    served.meters.outcomes["timeout"] += read.count
    return ProblemError("deadline-exceeded")


def answers_by_row(read: ReadRows, answers: Answers) -> list[RowAnswer | RowRefused]:
    """Return for each row of a request its answer, or why it has none."""
    rows: list[Any] = answers.rows
    if len(rows) != read.count:
        rows = [None] * read.count
        for position, answer in zip(read.positions, answers.rows, strict=True):
            rows[position] = answer
    for position, warnings in read.warnings.items():
        if rows[position] is not None:
            rows[position].warnings = warnings
    for position, faults in read.faults.items():
        rows[position] = _refused("rows-rejected", faults_of(position, faults))
    for index, error in answers.failures.items():
        position = read.positions[index]
        message = f"The model failed for this row ({error}), which is right by the contract."
        rows[position] = _refused(
            "model-failed", [RequestFault(f"/rows/{position}", "model_failed", message)]
        )
    return rows


def _refused(slug: str, faults: Sequence[RequestFault]) -> RowRefused:
    return RowRefused(RowProblem(type_of(slug), PROBLEMS[slug].title, faults))


def faults_of(position: int, faults: Sequence[Fault]) -> list[RequestFault]:
    """Return the faults of a row with pointers from the root of the body."""
    return [RequestFault(f"/rows/{position}{f.pointer}", f.code, f.message) for f in faults]


def _rejected(read: ReadRows) -> ProblemError:
    faults = [f for position, found in read.faults.items() for f in faults_of(position, found)]
    rows = "the only row" if read.count == 1 else f"all {read.count} rows"
    detail = f"The contract refuses {rows}. Correct what the faults point at and send again."
    problem = ProblemError("rows-rejected", detail, faults=faults)
    problem.read = read
    return problem


def _failed(rows: Sequence[RowAnswer | RowRefused], read: ReadRows) -> ProblemError:
    refused = [row for row in rows if isinstance(row, RowRefused)]
    problem = ProblemError("model-failed", faults=[f for row in refused for f in row.error.faults])
    problem.read = read
    return problem


def count_problems(meters: VersionMeters, read: ReadRows) -> None:
    """Count what policies mended and what the contract refused."""
    for warnings in read.warnings.values():
        for warning in warnings:
            meters.count_problem(warning.feature, warning.problem)
    for faults in read.faults.values():
        for fault in faults:
            meters.count_problem(feature_in(fault.pointer), fault.code)
