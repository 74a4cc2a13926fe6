"""One inference: tensors to rows, rows through the contract and the model, answers to tensors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from model_service.contract.contract import Contract
from model_service.contract.rows import ReadRows
from model_service.serving.answered_request import AnsweredRequest
from model_service.serving.inference_protocol.messages import (
    ENTITY,
    Description,
    InferAnswer,
    InferRequest,
    OutputTensor,
    RequestedOutput,
    read_request,
)
from model_service.serving.inference_protocol.tensors import (
    column_of,
    datatype_of,
    encoded,
    shape_of,
)
from model_service.serving.loaded_models import Resolved, ServedVersion
from model_service.serving.prediction import (
    LARGEST_BODY_READ_IN_LOOP,
    answers_by_row,
    answers_of,
    count_problems,
    faults_of,
)
from model_service.serving.problems import ProblemError
from model_service.serving.row_answers import RowAnswer, RowRefused, in_order

PROBABILITIES = "probabilities"
PREDICTION_ID = "prediction_id"
"""An output for those who ask for it: the id by which ground truth is told later."""


class Inferred(msgspec.Struct):
    """An encoded answer; `json_length` is set where bytes of tensors follow the JSON."""

    body: bytes
    json_length: int | None
    answered: AnsweredRequest


async def infer(
    resolved: Resolved,
    body: bytes,
    json_length: bytes | None,
    request_id: str,
) -> Inferred:
    """Answer a request for one version.

    Raises:
        ProblemError: there is no answer; of many rows, one that is refused refuses them all,
            because the protocol knows no answer for a part of them.
    """
    served = resolved.served
    started = time.perf_counter()
    try:
        if len(body) > LARGEST_BODY_READ_IN_LOOP:
            request, sent, read = await asyncio.to_thread(_read, served, body, json_length)
        else:
            request, sent, read = _read(served, body, json_length)
        _check_outputs(request, served.loaded.contract)
    except ProblemError:
        served.meters.outcomes["invalid_input"] += 1
        raise
    count_problems(served.meters, read)
    if read.faults:
        served.meters.outcomes["invalid_input"] += read.count
        raise _refused(read)  # the accepted rows among them have no answer to be counted with
    read_at = time.perf_counter()
    answers = await answers_of(served, read)
    answered_at = time.perf_counter()
    failed = len(answers.failures)
    served.meters.seconds.observe(answered_at - started)
    served.meters.outcomes["model_error" if failed else "ok"] += read.count
    if failed:  # the rows that did not fail have no answer either
        detail = f"The model failed for {failed} of {read.count} rows."
        problem = ProblemError("model-failed", detail)
        problem.read = read
        raise problem
    rows = answers_by_row(read, answers)
    content, content_length = _encoded(resolved, request, read, rows, request_id)
    ended = time.perf_counter()
    served.meters.observe_stages(started, read_at, answered_at, ended, answers.seconds)
    entity = (request.parameters or {}).get(ENTITY)
    return Inferred(
        content,
        content_length,
        AnsweredRequest(
            served.loaded,
            resolved.alias,
            request_id,
            entity if isinstance(entity, str) else None,
            sent,
            read,
            rows,
            time.time(),
            ended - started,
            body_bytes=len(body),
        ),
    )


def described_inputs(contract: Contract) -> list[Description]:
    """Return the tensors that a model takes, one for each feature."""
    return [Description(f.name, datatype_of(f.type), shape_of(f)) for f in contract.features]


def described_outputs(contract: Contract) -> list[Description]:
    """Return the tensors that a model answers: the value and, of a class, its probabilities."""
    output = contract.output
    if output.type == "class":
        shares = Description(PROBABILITIES, "FP64", [-1, len(output.classes)])
        return [Description(output.name, "BYTES", [-1]), shares]
    shape = [-1, output.length or 0] if output.type == "vector" else [-1]
    return [Description(output.name, "FP64", shape)]


def _read(
    served: ServedVersion, body: bytes, json_length: bytes | None
) -> tuple[InferRequest, list[object], ReadRows]:
    request, parts = read_request(body, json_length)
    contract = served.loaded.contract
    known = {feature.name: feature for feature in contract.features}
    columns: dict[str, list[Any]] = {}
    for tensor, part in zip(request.inputs, parts, strict=True):
        if tensor.name in columns:
            raise ProblemError("invalid-request", f"Input {tensor.name!r} was sent twice.")
        if tensor.name in known:
            columns[tensor.name] = column_of(tensor, known[tensor.name], part)
        elif contract.unknown_fields == "reject":
            listed = ", ".join(known)
            raise ProblemError(
                "invalid-request", f"{tensor.name!r} is no input of this model. Inputs: {listed}."
            )
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1 or counts == {0}:
        raise ProblemError(
            "invalid-request", "The inputs must have the same number of rows, and at least one."
        )
    if counts.pop() > served.loaded.reader.rows_limit:
        limit = served.loaded.reader.rows_limit
        raise ProblemError("too-many-rows", f"At most {limit} rows are answered in one request.")
    rows: list[object] = [
        dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
    ]
    return request, rows, served.loaded.reader.read_rows(rows)


def _check_outputs(request: InferRequest, contract: Contract) -> None:
    known = [tensor.name for tensor in described_outputs(contract)]
    for wanted in request.outputs or ():
        if wanted.name not in (*known, PREDICTION_ID):
            raise ProblemError(
                "invalid-request",
                f"{wanted.name!r} is no output of this model. Outputs: {', '.join(known)}.",
            )


def _refused(read: ReadRows) -> ProblemError:
    faults = [fault for row, found in read.faults.items() for fault in faults_of(row, found)]
    position, first = next(iter(read.faults)), faults[0]
    others = f" {len(read.faults) - 1} more rows are refused." if len(read.faults) > 1 else ""
    problem = ProblemError(
        "rows-rejected", f"Row {position}: {first.message}{others}", faults=faults
    )
    problem.read = ReadRows(len(read.faults), (), [], {}, read.faults)
    return problem


def _encoded(
    resolved: Resolved,
    request: InferRequest,
    read: ReadRows,
    rows: Sequence[RowAnswer | RowRefused],
    request_id: str,
) -> tuple[bytes, int | None]:
    """Return the answer, and the length of its JSON where bytes of tensors follow."""
    served = resolved.served
    answers = [row for row in rows if isinstance(row, RowAnswer)]
    tensors = {tensor.name: tensor for tensor in _tensors(served.loaded.contract, answers)}
    wanted = request.outputs or [RequestedOutput(name) for name in tensors]
    ids = [row.prediction_id for row in answers]
    tensors[PREDICTION_ID] = OutputTensor(PREDICTION_ID, [len(ids)], "BYTES", ids)
    all_binary = (request.parameters or {}).get("binary_data_output", False)
    outputs, contents = [], []
    for one in wanted:
        tensor = tensors[one.name]
        if one.parameters.get("binary_data", all_binary) is True:
            tensor, content = encoded(tensor)
            contents.append(content)
        outputs.append(tensor)
    parameters: dict[str, str | int | float | bool] = {
        "alias": resolved.alias or "",
        "warnings": sum(len(found) for found in read.warnings.values()),
    }
    head = msgspec.json.encode(
        InferAnswer(served.model, served.version, request.id or request_id, parameters, outputs)
    )
    body = b"".join((head, *contents))
    return body, len(head) if contents else None


def _tensors(contract: Contract, answers: Sequence[RowAnswer]) -> Sequence[OutputTensor]:
    rows = len(answers)
    made = []
    for described in described_outputs(contract):
        data: list[Any] = [row.value for row in answers]
        if described.name == PROBABILITIES:
            shares = [row.probabilities for row in answers]
            data = in_order([one for one in shares if one is not msgspec.UNSET]).ravel().tolist()
        elif len(described.shape) == 2:
            data = [element for vector in data for element in vector]
        made.append(
            OutputTensor(described.name, [rows, *described.shape[1:]], described.datatype, data)
        )
    return made
