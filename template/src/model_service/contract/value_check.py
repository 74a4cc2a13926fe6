"""One value against one feature: the slow, complete reading that names every fault.

`rows.RowReader` decodes clean rows in one pass of compiled code; whatever that refuses comes here,
where policies act and faults are put into words.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, Literal

import msgspec

from model_service.contract.contract import Feature, Policy, PolicyAction

Problem = Literal["missing", "unknown_category", "out_of_range", "unknown_field"]
FaultCode = Literal[
    "missing",
    "wrong_type",
    "unknown_category",
    "out_of_range",
    "unknown_field",
    "not_a_number",
    "too_long",
    "wrong_length",
    "not_an_object",
    "invalid_json",
]
Cell = bool | int | float | str | dt.datetime | list[float] | None
"""A value as `RowReader` hands it on; None where it is missing."""

LARGEST_INTEGER = 2**53
"""Above it, neighbouring integers cannot be told apart in a 64-bit float (IEEE 754)."""

_TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "category": "a string",
    "string": "a string",
    "datetime": "a date and time with its offset, such as 2026-01-31T12:00:00Z",
    "vector": "a list of numbers",
}


class Fault(msgspec.Struct, frozen=True):
    """Why a row is refused. `pointer` is a JSON pointer (RFC 6901) from the row."""

    pointer: str
    code: FaultCode
    message: str


class RowWarning(msgspec.Struct, frozen=True):
    """What a policy did to a row that was answered all the same."""

    feature: str
    problem: Problem
    action: PolicyAction | Literal["ignore"]
    message: str


class RefusedValueError(Exception):
    """A value that its feature's contract refuses; carries the fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def pointer_to(name: str) -> str:
    """Return the JSON pointer of a row's field (RFC 6901: `~` and `/` are escaped)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def feature_in(pointer: str) -> str:
    """Return the field that a row's pointer begins with; `row` for the row as a whole."""
    first = pointer[1:].partition("/")[0]
    return first.replace("~1", "/").replace("~0", "~") or "row"


def check_value(feature: Feature, value: object, warnings: list[RowWarning]) -> Cell:
    """Return what the model gets for `value`, and append a warning for a policy that acted.

    Raises:
        RefusedValueError: the contract refuses the value.
    """
    if value is None or (value == "" and feature.is_text):
        return _missing(feature, warnings)
    if feature.type == "category":
        return _category(feature, _text(feature, value), warnings)
    if feature.type == "string":
        return _string(feature, _text(feature, value))
    if feature.type == "boolean":
        if not isinstance(value, bool):
            raise _wrong_type(feature, value)
        return value
    if feature.type == "datetime":
        moment: dt.datetime = _in_range(feature, _moment(feature, value), warnings)
        return moment
    if feature.type == "vector":
        return _vector(feature, value, warnings)
    number: float | int = _in_range(feature, _number(feature, value), warnings)
    return number


def _refusal(feature: Feature, code: FaultCode, message: str) -> RefusedValueError:
    return RefusedValueError(Fault(pointer_to(feature.name), code, message))


def _wrong_type(feature: Feature, value: object) -> RefusedValueError:
    return _refusal(
        feature,
        "wrong_type",
        f"{feature.name} must be {_TYPE_WORDS[feature.type]}, not {_kind(value)}.",
    )


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    for kind, words in ((str, "a string"), (int | float, "a number"), (list, "a list")):
        if isinstance(value, kind):
            return words
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def _shown(feature: Feature, value: object) -> str:
    if feature.sensitive:
        return "the value"
    text = str(value)
    text = text if len(text) <= 40 else text[:40] + "…"
    return repr(text) if isinstance(value, str) else text


def _missing(feature: Feature, warnings: list[RowWarning]) -> Cell:
    policy = feature.on_missing
    if policy.action == "reject":
        raise _refusal(
            feature, "missing", f"{feature.name} is required: send {_TYPE_WORDS[feature.type]}."
        )
    if policy.action == "pass":
        message = f"{feature.name} is missing; the model answered without it."
        warnings.append(RowWarning(feature.name, "missing", "pass", message))
        return None
    message = f"{feature.name} is missing; {policy.value!r} was used."
    warnings.append(RowWarning(feature.name, "missing", policy.action, message))
    return _replacement(feature, policy)


def _replacement(feature: Feature, policy: Policy) -> Cell:
    value = policy.value
    if feature.type == "datetime":
        return _moment(feature, value)
    if feature.type == "number":
        return float(value)  # type: ignore[arg-type]
    if feature.type == "vector" and isinstance(value, list):
        return [float(element) for element in value]
    return value


def _text(feature: Feature, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(feature, value)
    return value


def _category(feature: Feature, value: str, warnings: list[RowWarning]) -> str:
    if value in feature.categories:
        return value
    policy = feature.on_unknown
    if policy.action == "reject":
        known = ", ".join(feature.categories[:12])
        more = ", …" if len(feature.categories) > 12 else ""
        raise _refusal(
            feature,
            "unknown_category",
            f"{feature.name} must be one of {known}{more}, not {_shown(feature, value)}.",
        )
    shown = _shown(feature, value)
    if policy.action == "map_to":
        message = f"{feature.name} has a new category {shown}; {policy.value!r} was used."
    else:
        message = f"{feature.name} has a new category {shown}; the model got it as it is."
    warnings.append(RowWarning(feature.name, "unknown_category", policy.action, message))
    return str(policy.value) if policy.action == "map_to" else value


def _string(feature: Feature, value: str) -> str:
    if feature.max_length is not None and len(value) > feature.max_length:
        raise _refusal(
            feature,
            "too_long",
            f"{feature.name} has {len(value)} characters; at most {feature.max_length} may come.",
        )
    return value


def _finite(feature: Feature, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(feature, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _refusal(feature, "not_a_number", f"{feature.name} must be a finite number.")
    return number


def _number(feature: Feature, value: object) -> float | int:
    number = _finite(feature, value)
    if feature.type == "number":
        return number
    whole = value if isinstance(value, int) else int(number)
    if not number.is_integer():
        raise _refusal(
            feature, "wrong_type", f"{feature.name} must be a whole number, without decimals."
        )
    if abs(whole) > LARGEST_INTEGER:
        message = f"{feature.name} must lie between -2^53 and 2^53."
        raise _refusal(feature, "not_a_number", message)
    return whole


def _moment(feature: Feature, value: object) -> dt.datetime:
    if not isinstance(value, str):
        raise _wrong_type(feature, value)
    try:
        moment = msgspec.convert(value, dt.datetime)
    except msgspec.ValidationError:
        raise _wrong_type(feature, value) from None
    if moment.tzinfo is None:
        message = f"{feature.name} needs an offset from UTC, such as 2026-01-31T12:00:00Z."
        raise _refusal(feature, "wrong_type", message)
    return moment


def _vector(feature: Feature, value: object, warnings: list[RowWarning]) -> list[float]:
    if not isinstance(value, list):
        raise _wrong_type(feature, value)
    if len(value) != feature.length:
        message = f"{feature.name} must have {feature.length} elements, not {len(value)}."
        raise _refusal(feature, "wrong_length", message)
    acted: list[RowWarning] = []
    elements = [float(_in_range(feature, _finite(feature, item), acted)) for item in value]
    warnings.extend(acted[:1])
    return elements


def _in_range(feature: Feature, value: Any, warnings: list[RowWarning]) -> Any:
    """Apply the range; `value` and the bounds are all numbers or all aware datetimes."""
    low: Any = feature.minimum
    high: Any = feature.maximum
    if (low is None or value >= low) and (high is None or value <= high):
        return value
    policy = feature.on_out_of_range
    if policy.action == "reject":
        raise _refusal(
            feature,
            "out_of_range",
            f"{feature.name} must be {_range_words(low, high)}, not {_shown(feature, value)}.",
        )
    if policy.action == "clip":
        nearest = low if low is not None and value < low else high
        message = f"{feature.name} was {_shown(feature, value)}; {nearest} was used."
        warnings.append(RowWarning(feature.name, "out_of_range", "clip", message))
        return type(value)(nearest) if isinstance(value, int | float) else nearest
    message = f"{feature.name} is out of range with {_shown(feature, value)}; it was used as it is."
    warnings.append(RowWarning(feature.name, "out_of_range", "pass", message))
    return value


def _range_words(low: Any, high: Any) -> str:
    if low is None:
        return f"at most {high}"
    if high is None:
        return f"at least {low}"
    return f"between {low} and {high}"
