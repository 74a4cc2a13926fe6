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
_STEPS = 17
"""How many numbers of a range are made up: odd, so that the middle is one of them."""


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


def example_answer(contract: Contract, seed: int = 0) -> ExampleAnswer:
    """Return an answer of the right shape. Its numbers are made up, by `seed` (0 or more)."""
    output = contract.output
    if output.type == "class":
        shares = _shares(output, seed)
        return ExampleAnswer(_chosen(output, shares), shares)
    if output.type == "vector":
        return ExampleAnswer([_typical(output, seed)] * (output.length or 1))
    return ExampleAnswer(_typical(output, seed))


def _shares(output: Output, seed: int) -> dict[str, float]:
    """Return probabilities that add up to 1; which class has the highest is up to `seed`."""
    count = len(output.classes)
    rest = round(0.2 / max(count - 1, 1), 4)
    highest = round(1 - rest * (count - 1), 4)
    chosen = seed % count
    return {name: highest if i == chosen else rest for i, name in enumerate(output.classes)}


def _chosen(output: Output, shares: dict[str, float]) -> str:
    """Return the class that the thresholds choose, as a served version would."""
    for name, threshold in output.thresholds.items():
        if shares[name] >= threshold:
            return name
    free = [name for name in output.classes if name not in output.thresholds]
    return max(free or output.classes, key=lambda name: shares[name])


def _typical(output: Output, seed: int) -> float:
    low, high = output.minimum, output.maximum
    step = seed % _STEPS
    if low is not None and high is not None:
        return _readable(low, high, (_STEPS // 2 + step) % _STEPS / (_STEPS - 1))
    return float(high - step if high is not None else (low or 0.0) + step)


def _number(feature: Feature) -> float:
    low: Any = feature.minimum
    high: Any = feature.maximum
    if low is not None and high is not None:
        return float(math.ceil(low)) if feature.type == "integer" else _readable(low, high)
    return float(low if low is not None else math.floor(high) if high is not None else 1)


def _readable(low: float, high: float, share: float = 0.5) -> float:
    """Return a number about so far between both, with as few digits as that takes."""
    target = low * (1 - share) + high * share
    nearby = high / 16 - low / 16
    for digits in range(16):
        rounded = round(target, digits)
        if low <= rounded <= high and abs(rounded - target) <= nearby:
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
