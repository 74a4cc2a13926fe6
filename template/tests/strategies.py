"""Clean and dirty values for any feature, and what the contract says must come of them."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from model_service.contract.contract import Contract, Feature, FeatureType, Policy

ABSENT = object()
"""Stands for a field that is not sent."""
FARTHEST = 1e9
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
TEXT_TYPES = ("category", "string")
NUMBER_TYPES = ("integer", "number")


@dataclass(frozen=True)
class Expected:
    """What must come of one value: a fault with this code, or a warning, or neither.

    `problem` and `action` are those of the warning; both None for a value that is clean.
    """

    fault: str | None = None
    problem: str | None = None
    action: str | None = None


CLEAN = Expected()


@dataclass(frozen=True)
class Dirt:
    """One way in which values of one feature can be wrong."""

    kind: str
    values: st.SearchStrategy[Any]
    expected: Expected


def clean_values(feature: Feature) -> st.SearchStrategy[Any]:
    """Return values as the contract describes them: no policy acts on any of them."""
    low, high = feature.minimum, feature.maximum
    match feature.type:
        case "boolean":
            return st.booleans()
        case "category":
            return st.sampled_from(feature.categories)
        case "string":
            longest = min(feature.max_length or 12, 12)
            return WORDS.map(lambda word: word[:longest])
        case "datetime":
            return _moments(low, high).map(_rfc3339)
        case "vector":
            length = feature.length or 0
            return st.lists(_numbers(feature), min_size=length, max_size=length)
        case "integer":
            first, last = _limits(feature)
            return st.integers(math.ceil(first), math.floor(last))
        case "number":
            return _numbers(feature)


def clean_rows(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    """Return rows on which no policy acts."""
    return st.fixed_dictionaries({f.name: clean_values(f) for f in contract.features})


def dirt_of(feature: Feature) -> list[Dirt]:
    """Return every way in which a value of this feature can be dirty."""
    missing = _expected_of(feature.on_missing, "missing", "missing")
    found = [
        Dirt("null", st.none(), missing),
        Dirt("absent", st.just(ABSENT), missing),
        Dirt("empty_string", st.just(""), missing if feature.is_text else Expected("wrong_type")),
        Dirt("wrong_type", _wrong_types(feature.type), Expected("wrong_type")),
    ]
    if feature.type in NUMBER_TYPES:
        found += [
            Dirt("true_for_a_number", st.booleans(), Expected("wrong_type")),
            Dirt("string_for_a_number", clean_values(feature).map(str), Expected("wrong_type")),
            Dirt("huge_number", st.sampled_from([10**400, -(10**400)]), Expected("not_a_number")),
        ]
    if feature.type == "integer":
        halves = st.integers(-1000, 1000).map(lambda number: number + 0.5)
        found.append(Dirt("decimals", halves, Expected("wrong_type")))
    if feature.type == "category":
        new = WORDS.filter(lambda word: word not in feature.categories)
        policy = _expected_of(feature.on_unknown, "unknown_category", "unknown_category")
        found.append(Dirt("new_category", new, policy))
    if feature.type == "string" and feature.max_length is not None:
        long = st.integers(1, 500).map(lambda more: "x" * (feature.max_length or 0) + "x" * more)
        found.append(Dirt("too_long", long, Expected("too_long")))
    if feature.type == "vector":
        found += _dirt_of_vectors(feature)
    if feature.minimum is not None or feature.maximum is not None:
        policy = _expected_of(feature.on_out_of_range, "out_of_range", "out_of_range")
        found.append(Dirt("out_of_range", _out_of_range(feature), policy))
    return found


def unknown_names(contract: Contract) -> st.SearchStrategy[str]:
    """Return names that are no features of the contract."""
    return WORDS.filter(lambda name: name not in contract.feature_names)


def unknown_field(contract: Contract) -> Expected:
    """Return what must come of a field that the contract does not have."""
    if contract.unknown_fields == "reject":
        return Expected("unknown_field")
    return Expected(problem="unknown_field", action="ignore")


@st.composite
def mixed_rows(draw: st.DrawFn, contract: Contract) -> tuple[dict[str, Any], dict[str, Expected]]:
    """Return a row in which any value may be dirty, and what must come of each dirty one."""
    row = draw(clean_rows(contract))
    expected = {}
    for feature in draw(st.lists(st.sampled_from(contract.features), max_size=3, unique=True)):
        dirt = draw(st.sampled_from(dirt_of(feature)))
        row = with_value(row, feature.name, draw(dirt.values))
        expected[feature.name] = dirt.expected
    if draw(st.integers(0, 4)) == 4:
        name = draw(unknown_names(contract))
        row[name] = draw(st.none() | st.integers() | WORDS)
        expected[name] = unknown_field(contract)
    return row, expected


def with_value(row: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return the row with another value in one field, or without that field."""
    rest = {field: other for field, other in row.items() if field != name}
    return rest if value is ABSENT else rest | {name: value}


def _expected_of(policy: Policy, code: str, problem: str) -> Expected:
    if policy.action == "reject":
        return Expected(code)
    return Expected(problem=problem, action=policy.action)


def _wrong_types(kind: FeatureType) -> st.SearchStrategy[Any]:
    wrong: list[Any] = [{}, {"value": 1}]
    if kind != "vector":
        wrong += [[], [1]]
    if kind not in TEXT_TYPES:
        wrong += ["three", "1e5"]
    if kind not in NUMBER_TYPES:
        wrong += [0, 1, 3.5]
    if kind != "boolean":
        wrong += [True, False]
    if kind == "datetime":
        wrong += ["2026-01-31", "2026-01-31T12:00:00", "2026-02-31T12:00:00Z"]
    return st.sampled_from(wrong)


def _dirt_of_vectors(feature: Feature) -> list[Dirt]:
    length = feature.length or 0
    element = _numbers(feature)
    other = st.integers(0, length + 3).filter(lambda n: n != length)
    wrong = st.sampled_from([True, None, "1", [1]])
    last_wrong = st.tuples(st.lists(element, min_size=length - 1, max_size=length - 1), wrong)
    return [
        Dirt(
            "wrong_length",
            other.flatmap(lambda n: st.lists(element, min_size=n, max_size=n)),
            Expected("wrong_length"),
        ),
        Dirt("wrong_element", last_wrong.map(lambda t: [*t[0], t[1]]), Expected("wrong_type")),
    ]


def _limits(feature: Feature) -> tuple[float, float]:
    """Return the range of numbers; where the contract leaves it open, a wide one."""
    low, high = feature.minimum, feature.maximum
    assert not isinstance(low, dt.datetime)
    assert not isinstance(high, dt.datetime)
    first = low if low is not None else min(-FARTHEST, high if high is not None else 0)
    last = high if high is not None else max(FARTHEST, low if low is not None else 0)
    return first, last


def _numbers(feature: Feature) -> st.SearchStrategy[float]:
    low, high = map(float, _limits(feature))
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


def _moments(low: Any, high: Any) -> st.SearchStrategy[dt.datetime]:
    early, late = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    first = low or min(early, high or early)
    last = high or max(late, first)
    seconds = st.floats(0, (last - first).total_seconds())
    return seconds.map(lambda later: min(first + dt.timedelta(seconds=later), last))


def _rfc3339(moment: dt.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _out_of_range(feature: Feature) -> st.SearchStrategy[Any]:
    """Return values that lie beyond either end of the feature's range."""
    ends = ((feature.minimum, -1), (feature.maximum, 1))
    stated = st.sampled_from([end for end in ends if end[0] is not None])
    values = st.builds(_beyond, stated, st.integers(1, 1000))
    if feature.type == "integer":
        return values.map(lambda value: math.floor(value) if value < 0 else math.ceil(value))
    if feature.type == "vector":
        others = (feature.length or 1) - 1
        rest = st.lists(_numbers(feature), min_size=others, max_size=others)
        return st.builds(lambda value, after: [value, *after], values, rest)
    return values


def _beyond(end: tuple[Any, int], steps: int) -> Any:
    bound, sign = end
    if isinstance(bound, dt.datetime):
        return _rfc3339(bound + dt.timedelta(days=sign * steps))
    return bound + sign * steps * max(1.0, abs(bound))
