"""`POST /v1/ground-truth` as the OpenAPI document describes it."""

from __future__ import annotations

from model_service.contract.openapi_problems import answers_of
from model_service.contract.row_schema import Schema

RESULTS = ("matched", "repeated", "corrected", "unknown", "refused")
_VALUE: Schema = {
    "description": "What really happened, as the model might have answered it.",
    "oneOf": [
        {"type": "string"},
        {"type": "number"},
        {"type": "array", "items": {"type": "number"}},
    ],
}
_AT: Schema = {
    "type": ["string", "number"],
    "description": "When it happened: a time with its offset, or seconds since 1970; if it is "
    "left out, now.",
}
_STATUSES = (400, 401, 405, 408, 413, 415, 422, 500, 503)


def ground_truth_path() -> Schema:
    """Return the operation; its schemas are those of `ground_truth_schemas`."""
    example = {
        "ground_truth": [
            {"prediction_id": "5f1c0a9be2d4-1", "value": 3750.0},
            {"prediction_id": "5f1c0a9be2d4-2", "value": 4100.0, "at": "2026-01-31T12:00:00Z"},
        ]
    }
    answer = {
        **dict.fromkeys(RESULTS, 0),
        "matched": 1,
        "unknown": 1,
        "ground_truth": [{"result": "matched"}, {"result": "unknown"}],
    }
    return {
        "operationId": "tell_ground_truth",
        "tags": ["service"],
        "summary": "Tell what really happened",
        "description": "Days or months after the answers. Tell it again to correct it: what came "
        "last counts. An entry whose prediction is not known yet is kept, and joined once it is; "
        "one that is refused costs its neighbours nothing.",
        "parameters": [{"$ref": "#/components/parameters/RequestId"}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/GroundTruth"},
                    "example": example,
                }
            },
        },
        "responses": {
            "200": {
                "description": "What became of each entry, in the order of the request.",
                "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/KeptGroundTruth"},
                        "example": answer,
                    }
                },
            },
            **answers_of(_STATUSES),
        },
    }


def ground_truth_schemas() -> Schema:
    """Return the schemas of the request and of the answer, by name."""
    text: Schema = {"type": "string"}
    count: Schema = {"type": "integer", "minimum": 0}
    result = {"type": "string", "enum": list(RESULTS)}
    entry = {
        "type": "object",
        "required": ["value"],
        "properties": {
            "prediction_id": {**text, "description": "The id that came with the answer."},
            "model": {**text, "description": "With a key: the model that answered."},
            "key": {
                "type": "object",
                "description": "In the place of an id: the features that identify the row. The "
                "last answer up to the time `at` is meant.",
            },
            "at": _AT,
            "value": _VALUE,
        },
        "additionalProperties": False,
    }
    kept = {
        "type": "object",
        "required": ["result"],
        "properties": {"result": result, "message": text},
    }
    return {
        "GroundTruth": {
            "type": "object",
            "required": ["ground_truth"],
            "properties": {"ground_truth": {"type": "array", "minItems": 1, "items": entry}},
            "additionalProperties": False,
        },
        "KeptGroundTruth": {
            "type": "object",
            "required": [*RESULTS, "ground_truth"],
            "properties": {
                **dict.fromkeys(RESULTS, count),
                "ground_truth": {"type": "array", "items": kept},
            },
        },
    }
