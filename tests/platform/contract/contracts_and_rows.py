"""Any contract and any row for it: Hypothesis strategies that know only what a contract may say."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from model_service.contract.contract import (
    FEATURE_TYPES,
    Contract,
    Feature,
    FeatureType,
    Output,
    Policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUT = Output(name="answer", type="number", meaning="What the model thinks.")
REJECT = Policy("reject")
PASS = Policy("pass")

# Names that JSON pointers must escape, that no ASCII holds, and that Python would not allow.
NAMES = st.sampled_from(
    ["length", "a/b", "~tilde~1", "größe", "数", "with space", "class", "0", "💡"]
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
NUMBERS = st.floats(-1e6, 1e6)


def policy(replacement: st.SearchStrategy[Any], *actions: str) -> st.SearchStrategy[Policy]:
    """A policy with one of these actions, and with a replacement if the action needs one."""
    return st.sampled_from(actions).flatmap(
        lambda action: st.builds(
            Policy,
            st.just(action),
            replacement if action in ("impute", "map_to") else st.none(),
        )
    )


@st.composite
def bounds(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> tuple[Any, Any]:
    """Return a smallest and a largest value, of which either may be absent."""
    low, high = sorted([draw(values), draw(values)])
    choices = [(None, None), (low, None), (None, high), (low, high)]
    return choices[draw(st.integers(0, 3))]


def _moments() -> st.SearchStrategy[dt.datetime]:
    return st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))


@st.composite
def features(draw: st.DrawFn, name: str, kind: FeatureType) -> Feature:
    """Return any feature of this type, with any policies."""
    given: dict[str, Any] = {"name": name, "type": kind, "sensitive": draw(st.booleans())}
    replacement: st.SearchStrategy[Any] = st.booleans()
    if kind in ("integer", "number", "vector"):
        numbers = NUMBERS if kind != "integer" else st.integers(-10_000, 10_000)
        given["minimum"], given["maximum"] = draw(bounds(numbers))
        low, high = given["minimum"], given["maximum"]
        replacement = st.just(low if low is not None else high if high is not None else 0)
    if kind == "datetime":
        given["minimum"], given["maximum"] = draw(bounds(_moments()))
        replacement = st.just("2026-01-31T12:00:00Z")
    if kind == "category":
        given["categories"] = tuple(draw(st.lists(WORDS, min_size=1, max_size=4, unique=True)))
        replacement = st.sampled_from(given["categories"])
        given["on_unknown"] = draw(policy(replacement, "reject", "pass", "map_to"))
    if kind == "string":
        given["max_length"] = draw(st.none() | st.integers(1, 5))
        replacement = WORDS
    if kind == "vector":
        given["length"] = draw(st.integers(1, 3))
        replacement = replacement.map(lambda element: [element] * given["length"])
    given["on_missing"] = draw(policy(replacement, "reject", "pass", "impute"))
    given["on_out_of_range"] = draw(policy(st.none(), "reject", "clip", "pass"))
    return Feature(**given)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Return any contract of one to four features."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    return Contract(
        name="any_model",
        contract_version="1.0",
        description="",
        features=tuple(
            draw(features(name, draw(st.sampled_from(FEATURE_TYPES)))) for name in names
        ),
        output=OUTPUT,
        unknown_fields=draw(st.sampled_from(["reject", "ignore"])),
    )


ODD_NUMBERS = st.sampled_from([0, -0.0, 3.0, 0.1, 2**53, 2**53 + 1, -(2**64), 10**300, 10**400])
ODD_TEXT = st.sampled_from(
    ["", " ", "3", "true", "null", "2026-01-31", "2026-01-31T12:00:00", "\0"]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | ODD_NUMBERS | ODD_TEXT | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)


def good_values(feature: Feature) -> st.SearchStrategy[Any]:
    """Values that look right for a feature; its range is not asked."""
    return _GOOD[feature.type](feature)


def _vectors(feature: Feature) -> st.SearchStrategy[Any]:
    length = feature.length or 0
    return st.lists(NUMBERS | st.integers(-5, 5), min_size=length, max_size=length)


_GOOD: dict[FeatureType, Callable[[Feature], st.SearchStrategy[Any]]] = {
    "integer": lambda _: st.integers(-12_000, 12_000) | st.integers(-9, 9).map(float),
    "number": lambda _: NUMBERS | st.integers(-100, 100),
    "boolean": lambda _: st.booleans(),
    "category": lambda feature: st.sampled_from(feature.categories),
    "string": lambda _: WORDS,
    "datetime": lambda _: st.datetimes(
        dt.datetime(1950, 1, 1), timezones=st.timezones() | st.just(dt.UTC)
    ).map(lambda moment: moment.isoformat().split("[")[0]),
    "vector": _vectors,
}


@st.composite
def rows(draw: st.DrawFn, contract: Contract) -> dict[str, Any]:
    """Return a row in which each field is right, odd, or absent, and others may be added."""
    row = {}
    for feature in contract.features:
        kind = draw(st.sampled_from(["good", "good", "good", "odd", "absent"]))
        if kind != "absent":
            row[feature.name] = draw(good_values(feature) if kind == "good" else JSON_VALUES)
    return row | draw(st.just({}) | st.dictionaries(WORDS, JSON_VALUES, max_size=1))


def same(one: object, other: object) -> bool:
    """Whether two cells are the same value of the same type; NaN is the same as NaN."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and one == other
