"""A contract's rows and answers as JSON Schema (2020-12), the way OpenAPI 3.1 embeds it.

Whatever the contract accepts, the schema accepts: a limit that a policy mends is told in words and
not enforced. One thing is simpler than the truth: an empty string counts as missing, and stands in
no list of categories.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, get_args

import msgspec

from model_service.contract.contract import Contract, Feature, Output
from model_service.contract.value_check import FaultCode, Problem

Schema = dict[str, Any]

_TYPES: dict[str, Schema] = {
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "category": {"type": "string"},
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
}
_WARNING_ACTIONS = ("pass", "impute", "clip", "map_to", "ignore")


def row_schema(contract: Contract) -> Schema:
    """Return the schema of one row of a request."""
    schema: Schema = {
        "type": "object",
        "description": contract.description,
        "properties": {feature.name: feature_schema(feature) for feature in contract.features},
        "additionalProperties": contract.unknown_fields == "ignore",
    }
    required = [f.name for f in contract.features if f.on_missing.action == "reject"]
    if required:
        schema["required"] = required
    return schema


def feature_schema(feature: Feature) -> Schema:
    """Return the schema of one feature's values."""
    schema: Schema = {}
    schema.update(_vector(feature) if feature.type == "vector" else _TYPES[feature.type])
    if feature.on_out_of_range.action == "reject":
        target = schema["items"] if feature.type == "vector" else schema
        target.update(_limits(feature))
    if feature.max_length is not None:
        schema["maxLength"] = feature.max_length
    if feature.type == "category" and feature.on_unknown.action == "reject":
        schema["enum"] = list(feature.categories)
    required = feature.on_missing.action == "reject"
    if required and feature.is_text and "enum" not in schema:
        schema["minLength"] = 1
    if not required:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"].append(None)
    # No "default": generated clients would send it, and nobody would see that a value is missing.
    if feature.example is not None:
        schema["examples"] = [feature.example]
    if feature.unit:
        schema["x-unit"] = feature.unit
    schema["description"] = " ".join(_words(feature))
    return schema


def value_schema(output: Output) -> Schema:
    """Return the schema of the value that a model answers."""
    schema: Schema
    if output.type == "class":
        schema = {"type": "string", "enum": list(output.classes)}
    elif output.type == "number":
        schema = {"type": "number"}
    else:
        schema = {"type": "array", "items": {"type": "number"}}
        if output.length is not None:
            schema |= {"minItems": output.length, "maxItems": output.length}
    if output.unit:
        schema["x-unit"] = output.unit
    schema["description"] = " ".join(_output_words(output))
    return schema


def answered_row_schema(contract: Contract) -> Schema:
    """Return the schema of a row that has an answer."""
    output = contract.output
    properties: Schema = {
        "prediction_id": {
            "type": "string",
            "description": "Names this prediction for good; keep it to report the ground truth.",
        },
        "value": value_schema(output),
    }
    if output.type == "class":
        share = {"type": "number", "description": "From 0 to 1, to 32-bit precision."}
        properties["probabilities"] = {
            "type": "object",
            "description": _probability_words(output),
            "properties": {name: dict(share) for name in output.classes},
            "required": list(output.classes),
            "additionalProperties": False,
        }
    properties["warnings"] = {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Warning"},
        "description": "What a policy of the contract did to dirty values; empty for a clean row.",
    }
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
    }


def warning_schema(features: list[str]) -> Schema:
    """Return the schema of a warning. `features` are examples of names that it may bear."""
    texts: dict[str, Schema] = {
        "feature": {"type": "string", "examples": features[:3]},
        "problem": {"type": "string", "enum": list(get_args(Problem))},
        "action": {"type": "string", "enum": list(_WARNING_ACTIONS)},
        "message": {"type": "string", "description": "For people; may be reworded."},
    }
    return {
        "type": "object",
        "description": "What a policy did to a value of a row that was answered all the same.",
        "required": list(texts),
        "properties": texts,
    }


def fault_schema() -> Schema:
    """Return the schema of a fault, of a row or of a whole request."""
    codes = ", ".join(get_args(FaultCode))
    return {
        "type": "object",
        "required": ["pointer", "code", "message"],
        "properties": {
            "pointer": {
                "type": "string",
                "description": "JSON pointer (RFC 6901) from the root of the body that was sent.",
            },
            "code": {
                "type": "string",
                "description": f"For programs, stable. Of a row's value: {codes}.",
            },
            "message": {
                "type": "string",
                "description": "What would be right, for people; may be reworded.",
            },
        },
    }


def _vector(feature: Feature) -> Schema:
    schema: Schema = {"type": "array", "items": {"type": "number"}}
    if feature.length is not None:
        schema |= {"minItems": feature.length, "maxItems": feature.length}
    return schema


def _limits(feature: Feature) -> Schema:
    """Return the range, as far as JSON Schema can say it: it cannot for dates."""
    limits = {"minimum": feature.minimum, "maximum": feature.maximum}
    return {
        key: bound
        for key, bound in limits.items()
        if isinstance(bound, int | float) and math.isfinite(bound)
    }


def _words(feature: Feature) -> list[str]:
    words = [_sentence(feature.description)] if feature.description else []
    if feature.unit:
        words.append(f"Unit: {feature.unit}.")
    if feature.type == "datetime":
        words.append("With its offset from UTC (RFC 3339).")
    words += _range_words(feature)
    if feature.type == "category" and feature.on_unknown.action != "reject":
        known = ", ".join(feature.categories)
        words.append(f"Known: {known}. {_policy_words('Any other', feature.on_unknown)}")
    if feature.on_missing.action != "reject":
        words.append(_policy_words("If it is missing, it", feature.on_missing))
    return words


def _range_words(feature: Feature) -> list[str]:
    low, high = _shown(feature.minimum), _shown(feature.maximum)
    if low is None and high is None:
        return []
    span = f"From {low}" if high is None else f"Up to {high}"
    if low is not None and high is not None:
        span = f"{low} to {high}"
    if feature.on_out_of_range.action == "reject":
        return [f"{span}."]
    return [f"{span}; {_policy_words('what lies outside', feature.on_out_of_range)}"]


def _policy_words(subject: str, policy: Any) -> str:
    done = {
        "pass": "is passed to the model as it is",
        "clip": "is moved to the nearest limit",
        "impute": f"is replaced by {_json(policy.value)}",
        "map_to": f"is taken as {_json(policy.value)}",
    }
    return f"{subject} {done[policy.action]}, with a warning."


def _output_words(output: Output) -> list[str]:
    words = [_sentence(output.meaning)]
    if output.unit:
        words.append(f"Unit: {output.unit}.")
    low, high = output.minimum, output.maximum
    if low is not None or high is not None:
        ends = [
            f"from {low:g}" if low is not None else "",
            f"to {high:g}" if high is not None else "",
        ]
        words.append(f"Expected {' '.join(filter(None, ends))}; not enforced.")
    if output.thresholds:
        stated = ", ".join(f"{name} from {share:g}" for name, share in output.thresholds.items())
        by = f", decided by {output.decided_by}" if output.decided_by else ""
        words.append(f"Chosen by thresholds, the first that is reached: {stated}{by}.")
    return words


def _probability_words(output: Output) -> str:
    if output.calibrated:
        return "By class; calibrated: of rows answered 0.8, about 80 % are right."
    return "By class; not calibrated: they rank rows, but 0.8 need not mean 80 %."


def _shown(bound: float | dt.datetime | None) -> str | None:
    if bound is None:
        return None
    return str(msgspec.to_builtins(bound)) if isinstance(bound, dt.datetime) else f"{bound:.15g}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _sentence(text: str) -> str:
    stripped = text.strip()
    return stripped if stripped.endswith((".", "!", "?")) else f"{stripped}."
