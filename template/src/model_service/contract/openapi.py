"""The OpenAPI 3.1 document of a service, typed for each model by its contract.

It is made from contracts alone and is the same, byte for byte, for the same contracts. Names of
schemas and operations begin with the model's name and a dot, which no model's name contains: they
are stable, and no two of them can meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from model_service.contract.contract import Contract
from model_service.contract.openapi_examples import answer_examples, request_examples
from model_service.contract.openapi_ground_truth import ground_truth_path, ground_truth_schemas
from model_service.contract.openapi_problems import (
    PREDICT_STATUSES,
    answers_of,
    problem_responses,
    problem_schema,
    row_problem_schema,
)
from model_service.contract.row_schema import (
    Schema,
    answered_row_schema,
    fault_schema,
    row_schema,
    warning_schema,
)
from model_service.contract.rows import LONGEST_ENTITY

__all__ = ["openapi_document"]

_STATE = {
    "type": "string",
    "enum": ["loading", "ready", "failed", "untrained", "not_served"],
}
_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}


def openapi_document(
    title: str,
    contracts: Iterable[Contract],
    *,
    description: str = "",
    service_version: str = "1",
    rows_limit: int | None = None,
    needs_key: bool = False,
) -> dict[str, Any]:
    """Return the document as plain JSON values.

    `contracts` has the contract of each model's champion; `rows_limit` is the largest number of
    rows in one request, where that is known; `needs_key` says that callers have API keys.
    """
    by_name = {contract.name: contract for contract in contracts}
    info: Schema = {"title": title or "Models", "version": service_version}
    if description:
        info["description"] = description
    paths = _service_paths()
    schemas = _shared_schemas(by_name.values())
    for name in sorted(by_name):
        paths.update(_model_paths(by_name[name]))
        schemas.update(_model_schemas(by_name[name], rows_limit))
    document: Schema = {
        "openapi": "3.1.0",
        "info": info,
        "tags": [
            *({"name": name, "description": by_name[name].description} for name in sorted(by_name)),
            {"name": "service", "description": "The models, their state, and the service's own."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problem_responses(),
            "parameters": _parameters(),
            "headers": _headers(),
        },
    }
    if needs_key:
        _require_key(document)
    return document


def _require_key(document: Schema) -> None:
    """Say that a key is sent with every request but those of health, metrics and documents."""
    scheme = {"type": "http", "scheme": "bearer", "description": "Ask the owners for a key."}
    document["components"]["securitySchemes"] = {"ApiKey": scheme}
    document["security"] = [{"ApiKey": []}]
    for path, operations in document["paths"].items():
        if not path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = []


def _model_paths(contract: Contract) -> Schema:
    name = contract.name
    version = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": _TEXT,
        "description": "A version's number, such as 1, or an alias, such as champion.",
    }
    by_version = _operation(
        contract,
        f"{name}.predict_version",
        f"Predict {contract.output.name} by one version of {name}",
        "Rows are described as the champion reads them. A version with another contract reads "
        "them by its own; GET /v1/models/{model} says which contract_version that is.",
    )
    by_version["parameters"] = [version, *by_version["parameters"]]
    return {
        f"/v1/models/{name}/predict": {
            "post": _operation(
                contract,
                f"{name}.predict",
                f"Predict {contract.output.name} by the champion of {name}",
                contract.description,
            )
        },
        f"/v1/models/{name}/versions/{{version}}/predict": {"post": by_version},
    }


def _operation(contract: Contract, identifier: str, summary: str, description: str) -> Schema:
    name = contract.name
    return {
        "operationId": identifier,
        "tags": [name],
        "summary": summary,
        "description": f"{description}\n\nContract version {contract.contract_version}.",
        "parameters": [{"$ref": "#/components/parameters/RequestId"}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _reference(f"{name}.Request"),
                    "examples": request_examples(contract),
                }
            },
        },
        "responses": {
            "200": _answered(
                "An answer for each row, in the order of the request. A row that is refused has "
                "`error` in the place of `value`, and costs its neighbours nothing.",
                _reference(f"{name}.Answer"),
                answer_examples(contract),
            ),
            **answers_of(PREDICT_STATUSES),
        },
    }


def _model_schemas(contract: Contract, rows_limit: int | None) -> Schema:
    name = contract.name
    rows: Schema = {"type": "array", "minItems": 1, "items": _reference(f"{name}.Row")}
    if rows_limit is not None:
        rows["maxItems"] = rows_limit
    entity = {
        "type": ["string", "null"],
        "maxLength": LONGEST_ENTITY,
        "description": "Whom the rows are about; requests of one entity go to one version.",
    }
    return {
        f"{name}.Row": row_schema(contract),
        f"{name}.Request": {
            "type": "object",
            "required": ["rows"],
            "properties": {"rows": rows, "entity": entity},
            "additionalProperties": False,
        },
        f"{name}.AnsweredRow": answered_row_schema(contract),
        f"{name}.Answer": _answer_schema(name),
    }


def _answer_schema(name: str) -> Schema:
    rows = {
        "type": "array",
        "items": {"oneOf": [_reference(f"{name}.AnsweredRow"), _reference("RefusedRow")]},
    }
    return {
        "type": "object",
        "required": ["model", "version", "alias", "request_id", "rows"],
        "properties": {
            "model": {"type": "string", "const": name},
            "version": {**_TEXT, "description": "The version that answered."},
            "alias": {
                **_TEXT_OR_NULL,
                "description": "By which alias it was found; null if it was asked for by number.",
            },
            "request_id": _TEXT,
            "rows": rows,
        },
    }


def _shared_schemas(contracts: Iterable[Contract]) -> Schema:
    names = sorted({feature.name for contract in contracts for feature in contract.features})
    aliases = {"type": "object", "additionalProperties": _TEXT}
    return {
        "Fault": fault_schema(),
        "Warning": warning_schema(names),
        "Problem": problem_schema(),
        "RowProblem": row_problem_schema(),
        "RefusedRow": {
            "type": "object",
            "title": "Refused row",
            "required": ["error"],
            "properties": {"error": _reference("RowProblem")},
        },
        **ground_truth_schemas(),
        "Version": _object(
            version=_TEXT,
            state=_STATE,
            reason=_TEXT_OR_NULL,
            code=_TEXT_OR_NULL,
            aliases={"type": "array", "items": _TEXT},
            format=_TEXT_OR_NULL,
            contract_version=_TEXT_OR_NULL,
        ),
        "Model": _object(
            model=_TEXT,
            state=_STATE,
            reason=_TEXT_OR_NULL,
            aliases=aliases,
            versions={"type": "array", "items": _reference("Version")},
        ),
        "Models": _object(models={"type": "array", "items": _reference("Model")}),
        "Live": _object(status={"const": "live"}),
        "Ready": _object(
            status={"const": "ready"},
            models={
                "type": "object",
                "additionalProperties": _object(state=_STATE, reason=_TEXT_OR_NULL),
            },
        ),
    }


def _service_paths() -> Schema:
    model = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
    described = _service_operation("get_model", "One model: versions, state and why", "Model", 404)
    described["parameters"] = [model, *described["parameters"]]
    metrics = _service_operation("metrics", "Prometheus metrics", None)
    metrics["responses"]["200"] = {
        "description": "Counters and histograms as Prometheus reads them.",
        "content": {"text/plain": {"schema": _TEXT}},
    }
    listed = _service_operation("list_models", "Models: versions, aliases, state", "Models")
    live = _service_operation("livez", "Whether the process runs", "Live")
    ready = _service_operation("readyz", "Whether every champion answers", "Ready", 503)
    document = _service_operation("openapi", "This document", None)
    document["responses"]["200"] = _answered("OpenAPI 3.1.", {"type": "object"})
    return {
        "/v1/models": {"get": listed},
        "/v1/models/{model}": {"get": described},
        "/v1/ground-truth": {"post": ground_truth_path()},
        "/livez": {"get": live},
        "/readyz": {"get": ready},
        "/metrics": {"get": metrics},
        "/openapi.json": {"get": document},
    }


def _service_operation(identifier: str, summary: str, schema: str | None, *statuses: int) -> Schema:
    reference = _reference(schema) if schema else _TEXT
    return {
        "operationId": identifier,
        "tags": ["service"],
        "summary": summary,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}],
        "responses": {"200": _answered(f"{summary}.", reference), **answers_of((*statuses, 500))},
    }


def _answered(description: str, schema: Schema, examples: Schema | None = None) -> Schema:
    media: Schema = {"schema": schema}
    if examples:
        media["examples"] = examples
    return {
        "description": description,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
        "content": {"application/json": media},
    }


def _parameters() -> Schema:
    return {
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "Your id of the request: at most 128 letters, digits and . _ : - of "
            "which the first is a letter or a digit. One is made in the place of any other.",
        }
    }


def _headers() -> Schema:
    return {
        "RequestId": {"schema": _TEXT, "description": "The id of the request, as in the logs."},
        "RetryAfter": {"schema": {"type": "integer"}, "description": "Seconds to wait."},
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
