"""The JSON of the protocol, and how a request's JSON and the bytes after it are told apart."""

from __future__ import annotations

from typing import Any

import msgspec

from model_service.serving.problems import ProblemError

Parameter = str | int | float | bool
LARGEST_DIMENSION = 2**31
Dimension = int


class InputTensor(msgspec.Struct):
    """One tensor of a request; `data` is not set where its bytes follow the JSON."""

    name: str
    shape: list[Dimension]
    datatype: str
    parameters: dict[str, Parameter] = {}
    data: Any = msgspec.UNSET


class RequestedOutput(msgspec.Struct):
    """An output that the caller wants."""

    name: str
    parameters: dict[str, Parameter] = {}


class InferRequest(msgspec.Struct):
    """What is sent to `…/infer`."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Parameter] | None = None
    outputs: list[RequestedOutput] | None = None


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """One tensor of an answer."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    parameters: dict[str, Parameter] = {}


class InferAnswer(msgspec.Struct):
    """What is answered; `parameters` has the alias, and how many values a policy mended."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Parameter]
    outputs: list[OutputTensor]


class Description(msgspec.Struct):
    """A tensor as metadata describe it; -1 is any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class _Envelope(msgspec.Struct):
    parameters: dict[str, Any] = {}


ENTITY = "entity"
"""The parameter of a request that says whom it is about, as `entity` does at `/v1`."""
_request = msgspec.json.Decoder(InferRequest)
_envelope = msgspec.json.Decoder(_Envelope)


def entity_of(body: bytes, json_length: bytes | None) -> str | None:
    """Return whom a request is about; None also where it cannot be read, and is to be refused."""
    try:
        entity = _envelope.decode(body[: _length(json_length, body)]).parameters.get(ENTITY)
    except (ProblemError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return entity if isinstance(entity, str) else None


def read_request(body: bytes, json_length: bytes | None) -> tuple[InferRequest, list[bytes | None]]:
    """Return a request, and for each of its inputs the bytes that follow the JSON, if any.

    `json_length` is the header `Inference-Header-Content-Length`.

    Raises:
        ProblemError: the body is no such request.
    """
    length = _length(json_length, body)
    try:
        request = _request.decode(body[:length])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProblemError("invalid-request", f"This is no inference request: {error}.") from None
    if not isinstance((request.parameters or {}).get(ENTITY, ""), str):
        raise ProblemError("invalid-request", f"The parameter {ENTITY!r} must be a text.")
    if not request.inputs:
        raise ProblemError("invalid-request", 'Send at least one tensor in "inputs".')
    for tensor in request.inputs:
        if any(not 0 <= size <= LARGEST_DIMENSION for size in tensor.shape):
            raise ProblemError("invalid-request", f"Input {tensor.name!r} has an impossible shape.")
    return request, _binary_parts(request, body[length:])


def _length(json_length: bytes | None, body: bytes) -> int:
    if json_length is None:
        return len(body)
    if not json_length.isdigit() or len(json_length) > 10 or int(json_length) > len(body):
        raise ProblemError(
            "invalid-request",
            "Inference-Header-Content-Length must be the length of the JSON at the body's start.",
        )
    return int(json_length)


def _binary_parts(request: InferRequest, content: bytes) -> list[bytes | None]:
    parts: list[bytes | None] = []
    at = 0
    for tensor in request.inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            parts.append(None)
            continue
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise ProblemError(
                "invalid-request", f"binary_data_size of {tensor.name!r} is no number of bytes."
            )
        parts.append(content[at : at + size])
        at += size
    if at != len(content):
        raise ProblemError(
            "invalid-request",
            f"{len(content)} bytes follow the JSON, and the inputs have {at} by binary_data_size.",
        )
    return parts
