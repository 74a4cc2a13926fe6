"""Errors as the OpenAPI document describes them: one shape (RFC 9457) for every status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from model_service.contract.row_schema import Schema

MEDIA_TYPE = "application/problem+json"


class ProblemExample(msgspec.Struct, frozen=True):
    """One status: the name of its response, what to do, and an error that it may carry."""

    name: str
    description: str
    slug: str
    title: str
    detail: str
    faults: tuple[dict[str, str], ...] = ()


PROBLEM_EXAMPLES: dict[int, ProblemExample] = {
    400: ProblemExample(
        "BadRequest",
        "The body is not JSON, or not what this address takes.",
        "invalid-request",
        "The body is not what this address takes",
        'The body has no "rows": send {"rows": [{…}]}.',
        (
            {
                "pointer": "/rows",
                "code": "missing_rows",
                "message": 'The body has no "rows": send {"rows": [{…}]}.',
            },
        ),
    ),
    401: ProblemExample(
        "KeyRequired",
        "An API key is missing or not known; only where the service has keys.",
        "key-required",
        "An API key is needed",
        "Send the header Authorization: Bearer KEY (or X-API-Key: KEY). The owners of the service "
        "give out keys.",
    ),
    404: ProblemExample(
        "NotFound",
        "No such address, model, version or alias.",
        "model-not-found",
        "No such model",
        "GET /v1/models lists the models.",
    ),
    405: ProblemExample(
        "MethodNotAllowed",
        "Use one of the methods of the Allow header.",
        "method-not-allowed",
        "Method not allowed",
        "Allowed at this address: POST.",
    ),
    408: ProblemExample(
        "RequestTimeout",
        "The body arrived too slowly.",
        "request-timeout",
        "The body arrived too slowly",
        "Send the whole body at once, or fewer rows.",
    ),
    413: ProblemExample(
        "TooLarge",
        "The body is too large, or has too many rows: send several requests.",
        "too-many-rows",
        "Too many rows",
        "Send the rows in several requests.",
    ),
    415: ProblemExample(
        "UnsupportedMediaType",
        "Send Content-Type: application/json, in UTF-8.",
        "unsupported-media-type",
        "Unsupported media type",
        "Send Content-Type: application/json, in UTF-8.",
    ),
    422: ProblemExample(
        "RowsRejected",
        "The contract refuses every row. Each fault points at a value and says what is right.",
        "rows-rejected",
        "Rows rejected by the contract",
        "The contract refuses the only row. Correct what the faults point at and send again.",
        (
            {
                "pointer": "/rows/0",
                "code": "not_an_object",
                "message": "A row must be an object with a field for each feature.",
            },
        ),
    ),
    429: ProblemExample(
        "TooManyRequests",
        "Too many rows are waiting: wait as long as Retry-After says, then send again.",
        "queue-full",
        "Too many rows are waiting",
        "Wait a second, then send again.",
    ),
    500: ProblemExample(
        "InternalError",
        "The service or the model failed: report the request id to the owners.",
        "internal-error",
        "Internal error",
        "Report the request id to the owners of the service.",
    ),
    503: ProblemExample(
        "NotReady",
        "The model cannot answer now; while it is loading, send again after a second.",
        "model-not-ready",
        "The model cannot answer now",
        "GET /v1/models/{model} says why. While it is loading, send again after a second.",
    ),
    504: ProblemExample(
        "DeadlineExceeded",
        "The answer took too long: send fewer rows at once, or later.",
        "deadline-exceeded",
        "The answer took too long",
        "Send fewer rows at once, or later.",
    ),
}
PREDICT_STATUSES = tuple(PROBLEM_EXAMPLES)


def answers_of(statuses: Iterable[int]) -> Schema:
    """Return the responses of an operation that may fail with these statuses."""
    return {
        str(status): {"$ref": f"#/components/responses/{PROBLEM_EXAMPLES[status].name}"}
        for status in statuses
    }


def problem_responses() -> Schema:
    """Return the shared responses, by name."""
    return {
        example.name: _response(status, example) for status, example in PROBLEM_EXAMPLES.items()
    }


def problem_schema() -> Schema:
    """Return the schema of an error's body."""
    properties: dict[str, Schema] = {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Stable: let programs tell errors apart by it.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What was wrong this time, and what to do."},
        "request_id": {"type": "string", "description": "Quote it when you report the error."},
        "faults": _faults(),
    }
    return {
        "type": "object",
        "description": "Every error of every address (RFC 9457).",
        "required": list(properties),
        "properties": properties,
    }


def row_problem_schema() -> Schema:
    """Return the schema of the error of one row among others."""
    properties: dict[str, Schema] = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "faults": _faults(),
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _faults() -> Schema:
    return {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}}


def _response(status: int, example: ProblemExample) -> Schema:
    headers: Schema = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    if status == 429:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    body: dict[str, Any] = {
        "type": f"/docs#problem-{example.slug}",
        "title": example.title,
        "status": status,
        "detail": example.detail,
        "request_id": "5f1c0a9be2d4-2",
        "faults": [dict(fault) for fault in example.faults],
    }
    media = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": body}
    return {
        "description": example.description,
        "headers": headers,
        "content": {MEDIA_TYPE: media},
    }
