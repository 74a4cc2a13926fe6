"""The path of a prediction, without HTTP: read rows, batch, predict, answer, observe.

Identity (model, version, alias) comes from the resolved version only, never from the request.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
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


class Answered(msgspec.Struct, gc=False):
    """An encoded answer, what the log says of it, and what was read and answered by row."""

    body: bytes
    outcome: str
    rows: int
    answers: Sequence[RowAnswer | RowRefused]
    read: ReadRows
    entity: str | None


class Identifiers:
    """Makes ids that no other process makes: a random prefix and a counter."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def next(self) -> str:
        """Return an id that was never returned before."""
        return f"{self._prefix}-{next(self._count):x}"

    def take(self, count: int) -> list[str]:
        """Return so many ids that were never returned before."""
        prefix = self._prefix
        return [f"{prefix}-{number:x}" for number in itertools.islice(self._count, count)]


def outcome_of(slug: str) -> str:
    """Return the outcome that the log and the metrics give to a problem."""
    return _OUTCOMES.get(slug, "invalid_input" if PROBLEMS[slug].status < 500 else "model_error")


async def predict(
    resolved: Resolved, body: bytes, request_id: str, identifiers: Identifiers
) -> Answered:
    """Answer one request that was resolved to a version.

    Raises:
        ProblemError: no row has an answer.
    """
    served = resolved.served
    started = time.perf_counter()
    read, entity = await _read(served, body)
    meters = served.meters
    if read.warnings or read.faults:
        count_problems(meters, read)
    if not read.values:
        meters.outcomes["invalid_input"] += read.count
        raise _rejected(read)
    read_at = time.perf_counter()
    answers = await answers_of(served, read)
    answered_at = time.perf_counter()
    rows = answers_by_row(served, read, answers, identifiers)
    meters.seconds.observe(time.perf_counter() - started)
    failed = len(answers.failures)
    meters.outcomes["ok"] += len(read.values) - failed
    if not read.faults and not failed:
        outcome = "ok"
    else:
        meters.outcomes["invalid_input"] += len(read.faults)
        meters.outcomes["model_error"] += failed
        if failed == len(read.values):
            raise _failed(rows, read)
        outcome = "partial"
    answer = PredictionAnswer(served.model, served.version, resolved.alias, request_id, rows)
    encoded = _encode(answer)
    meters.observe_stages(started, read_at, answered_at, answers.seconds)
    return Answered(encoded, outcome, read.count, rows, read, entity)


async def _read(served: ServedVersion, body: bytes) -> tuple[ReadRows, str | None]:
    reader = served.loaded.reader
    try:
        if len(body) > LARGEST_BODY_READ_IN_LOOP:
            return await asyncio.to_thread(reader.read_body, body)
        return reader.read_body(body)
    except BodyError as error:
        served.meters.outcomes["invalid_input"] += 1
        slug = _SLUG_OF_CODE.get(error.code, "invalid-request")
        fault = RequestFault(error.pointer, error.code, error.message)
        raise ProblemError(slug, error.message, faults=(fault,)) from None


async def answers_of(served: ServedVersion, read: ReadRows) -> Answers:
    """Let the version answer the rows that were accepted.

    Raises:
        ProblemError: too many rows wait, or the answer takes too long.
    """
    outcomes = served.meters.outcomes
    try:
        return await served.batcher.submit(read.values)
    except QueueFullError:
        outcomes["shed"] += read.count
        raise ProblemError(
            "queue-full",
            f"Too many rows wait for {served.model}. Wait a second, then send again.",
            headers=((b"retry-after", b"1"),),
        ) from None
    except DeadlineError:
        outcomes["timeout"] += read.count
        raise ProblemError("deadline-exceeded") from None


def answers_by_row(
    served: ServedVersion, read: ReadRows, answers: Answers, identifiers: Identifiers
) -> list[RowAnswer | RowRefused]:
    """Return for each row of a request its answer, with an id of its own, or why it has none."""
    ids = identifiers.take(len(read.values))
    values, probabilities = answers.values, answers.probabilities
    if probabilities is None:
        answered = list(map(RowAnswer, ids, values))
    else:
        classes = served.classes
        answered = [
            RowAnswer(prediction_id, value, dict(zip(classes, shares, strict=False)))
            for prediction_id, value, shares in zip(ids, values, probabilities, strict=True)
        ]
    rows: list[Any] = answered
    if len(answered) != read.count:
        rows = [None] * read.count
        for position, answer in zip(read.positions, answered, strict=True):
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
