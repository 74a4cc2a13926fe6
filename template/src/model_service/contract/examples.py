"""Rows and answers to show people, made from the contract alone.

Every row of `example_rows` is accepted by the contract, and no policy acts on one that was made
here: documentation, the demo and the generated tests send them as they are.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import msgspec

from model_service.contract.contract import Contract, Feature, Output, Value

__all__ = ["ExampleAnswer", "example_answer", "example_rows", "example_value"]

Row = dict[str, Value | None]


class ExampleAnswer(msgspec.Struct, frozen=True):
    """What a model might answer: `probabilities` by class, None unless the output is a class."""

    value: str | float | list[float]
    probabilities: dict[str, float] | None = None


def example_rows(contract: Contract) -> list[Row]:
    """Return the declared examples; without any, one row made from the features."""
    if contract.examples:
        return [dict(row) for row in contract.examples]
    return [{feature.name: example_value(feature) for feature in contract.features}]


def example_value(feature: Feature) -> Value:
    """Return the feature's example; without one, a clean value from its limits or categories."""
    if feature.example is not None:
        return feature.example
    match feature.type:
        case "boolean":
            return True
        case "category":
            return feature.categories[0]
        case "string":
            return "text"[: feature.max_length]
        case "datetime":
            return _rfc3339(_moment(feature))
        case "vector":
            return [_number(feature)] * (feature.length or 1)
        case "integer":
            return math.ceil(_number(feature))
        case "number":
            return _number(feature)


def example_answer(contract: Contract) -> ExampleAnswer:
    """Return an answer of the right shape. Its numbers are made up."""
    output = contract.output
    if output.type == "class":
        shares = _shares(output)
        return ExampleAnswer(_chosen(output, shares), shares)
    if output.type == "vector":
        return ExampleAnswer([_typical(output)] * (output.length or 1))
    return ExampleAnswer(_typical(output))


def _shares(output: Output) -> dict[str, float]:
    """Return probabilities that add up to 1, highest for the first class."""
    count = len(output.classes)
    rest = round(0.2 / max(count - 1, 1), 4)
    first = round(1 - rest * (count - 1), 4)
    return {name: first if i == 0 else rest for i, name in enumerate(output.classes)}


def _chosen(output: Output, shares: dict[str, float]) -> str:
    """Return the class that the thresholds choose, as a served version would."""
    for name, threshold in output.thresholds.items():
        if shares[name] >= threshold:
            return name
    free = [name for name in output.classes if name not in output.thresholds]
    return max(free or output.classes, key=lambda name: shares[name])


def _typical(output: Output) -> float:
    low, high = output.minimum, output.maximum
    if low is not None and high is not None:
        return _readable(low, high)
    return float(low if low is not None else high if high is not None else 0.0)


def _number(feature: Feature) -> float:
    low: Any = feature.minimum
    high: Any = feature.maximum
    if low is not None and high is not None:
        return float(math.ceil(low)) if feature.type == "integer" else _readable(low, high)
    return float(low if low is not None else math.floor(high) if high is not None else 1)


def _readable(low: float, high: float) -> float:
    """Return a number between both, with as few digits as that takes."""
    middle = low / 2 + high / 2
    for digits in range(16):
        rounded = round(middle, digits)
        if low <= rounded <= high:
            return rounded
    return float(low)


def _moment(feature: Feature) -> dt.datetime:
    moment = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    low: Any = feature.minimum
    high: Any = feature.maximum
    if low is not None and moment < low:
        return low  # type: ignore[no-any-return]
    return high if high is not None and moment > high else moment


def _rfc3339(moment: dt.datetime) -> str:
    text: str = msgspec.to_builtins(moment)
    return text
