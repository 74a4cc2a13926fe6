"""Which changes of a contract break its callers: requests may widen, answers may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from model_service.contract.compatibility import breaking_changes, changes, raises_major
from model_service.contract.contract import FEATURE_TYPES, Contract
from model_service.contract.reading import parse_contract
from model_service.contract.rows import RowReader
from tests.platform.contract.contracts_and_rows import contracts, features, rows

BASE = """
name: churn
contract_version: "1.2"
description: Who leaves.
unknown_fields: reject
features:
  age: {type: integer, unit: years, minimum: 18, maximum: 99}
  income: {type: number, minimum: 0, on_missing: pass, on_out_of_range: clip}
  plan: {type: category, categories: [free, pro, team]}
  city: {type: category, categories: [Bern, Genf], on_unknown: pass, on_missing: pass}
  note: {type: string, max_length: 20, on_missing: {impute: none}}
  since: {type: datetime, minimum: "2020-01-01T00:00:00Z"}
  active: {type: boolean}
  traits: {type: vector, length: 3, minimum: 0, maximum: 1}
output:
  name: leaves
  type: class
  classes: ["no", "yes"]
  meaning: Whether the customer leaves within a month.
  calibrated: true
"""
SCORE = """
name: price
contract_version: "1.0"
description: What it is worth.
features:
  size: {type: number}
output: {name: price, type: number, unit: CHF, minimum: 0, maximum: 100, meaning: In a year.}
"""
GONE = object()

# What is changed, as a path and its new value; and whether callers break.
MUTATIONS: list[tuple[str, Any, bool]] = [
    ("description", "Who stays.", False),
    ("unknown_fields", "ignore", False),
    ("features.income.on_out_of_range", "pass", False),
    ("features.city.on_unknown", {"map_to": "Bern"}, False),
    ("output.decided_by", "pricing", False),
    ("features.age", GONE, True),
    ("features.new", {"type": "number"}, True),
    ("features.new", {"type": "number", "on_missing": "pass"}, False),
    ("features.new", {"type": "number", "on_missing": {"impute": 1}}, False),
    ("features.age.type", "number", False),
    ("features.active.type", "string", True),
    ("features.income.type", "integer", True),
    ("features.age.unit", "months", True),
    ("features.age.description", "in whole years", False),
    ("features.age.minimum", 17, False),
    ("features.age.minimum", 21, True),
    ("features.age.maximum", 120, False),
    ("features.age.maximum", 65, True),
    ("features.age.maximum", GONE, False),
    ("features.age.on_missing", "pass", False),
    ("features.income.on_missing", "reject", True),
    ("features.income.minimum", 100, False),
    ("features.income.maximum", 1000, False),
    ("features.income.on_out_of_range", "reject", True),
    ("features.plan.categories", ["free", "pro", "team", "gold"], False),
    ("features.plan.categories", ["free", "pro"], True),
    ("features.plan.categories", ["team", "free", "pro"], False),
    ("features.plan.on_unknown", {"map_to": "free"}, False),
    ("features.city.categories", ["Bern"], False),
    ("features.city.on_unknown", "reject", True),
    ("features.note.max_length", 40, False),
    ("features.note.max_length", 10, True),
    ("features.note.max_length", GONE, False),
    ("features.note.on_missing", {"impute": "nothing"}, False),
    ("features.since.minimum", "2019-01-01T00:00:00Z", False),
    ("features.since.minimum", "2021-01-01T00:00:00Z", True),
    ("features.traits.length", 4, True),
    ("features.traits.maximum", 0.5, True),
    ("features.age.sensitive", True, False),
    ("features.age.source", {"system": "crm", "owner": "sales"}, False),
    ("output.name", "stays", True),
    ("output.classes", ["no", "yes", "maybe"], True),
    ("output.classes", ["no", "si"], True),
    ("output.classes", ["yes", "no"], True),
    ("output.calibrated", False, True),
    ("output.meaning", "Within a year.", False),
    ("output.thresholds", {"yes": 0.3}, False),
]
SCORE_MUTATIONS: list[tuple[str, Any, bool]] = [
    ("output.minimum", 10, False),
    ("output.minimum", -10, True),
    ("output.minimum", GONE, True),
    ("output.maximum", 90, False),
    ("output.maximum", 110, True),
    ("output.maximum", GONE, True),
    ("output.unit", "EUR", True),
    ("features.size.minimum", 1, True),
]


def read(text: str) -> Contract:
    name = yaml.safe_load(text)["name"]
    return parse_contract(text, Path(name) / "contract.yaml")


def mutated(text: str, path: str, value: Any) -> Contract:
    stated = yaml.safe_load(text)
    *folders, leaf = path.split(".")
    place = stated
    for folder in folders:
        place = place[folder]
    if value is GONE:
        del place[leaf]
    else:
        place[leaf] = value
    if path == "output.thresholds":
        stated["output"]["decided_by"] = "sales"
    return read(yaml.safe_dump(stated, sort_keys=False))


UNSAID = [("description", "Who stays."), ("features.plan.categories", ["team", "free", "pro"])]
"""Changes that no caller can notice at all."""


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [(BASE, path, value) for path, value, _ in MUTATIONS]
    + [(SCORE, path, value) for path, value, _ in SCORE_MUTATIONS],
)
def test_every_change_is_named_where_it_stands(text: str, path: str, value: Any) -> None:
    found = {change.field for change in changes(read(text), mutated(text, path, value))}
    found -= {"output.decided_by"} if path == "output.thresholds" else set()
    assert found == (set() if (path, value) in UNSAID else {path})


@pytest.mark.parametrize(
    ("text", "path", "value", "breaks"),
    [(BASE, *mutation) for mutation in MUTATIONS]
    + [(SCORE, *mutation) for mutation in SCORE_MUTATIONS],
    ids=lambda given: given if isinstance(given, str) and "." in given[:20] else "",
)
def test_what_breaks_callers_is_told_and_nothing_else(
    text: str, path: str, value: Any, breaks: bool
) -> None:
    old = read(text)
    found = breaking_changes(old, mutated(text, path, value))
    assert bool(found) == breaks, found
    assert all(path.startswith(change.field) or change.field.startswith(path) for change in found)


def test_the_same_contract_changes_nothing() -> None:
    contract = read(BASE)
    assert changes(contract, contract) == []


def test_a_field_that_is_gone_breaks_nobody_where_unknown_fields_are_ignored() -> None:
    old = mutated(BASE, "unknown_fields", "ignore")
    text = BASE.replace("unknown_fields: reject", "unknown_fields: ignore")
    assert not breaking_changes(old, mutated(text, "features.age", GONE))
    assert breaking_changes(old, read(BASE))


def test_versions_are_compared_as_numbers() -> None:
    old = mutated(BASE, "contract_version", "9.9")
    assert raises_major(old, mutated(BASE, "contract_version", "10.0"))
    assert not raises_major(old, mutated(BASE, "contract_version", "9.10"))


@st.composite
def changed(draw: st.DrawFn, old: Contract) -> Contract:
    """Return a contract in which any feature may be gone, changed or new."""
    kept = []
    for feature in old.features:
        fate = draw(st.sampled_from(["same", "same", "other", "gone"]))
        if fate == "same":
            kept.append(feature)
        elif fate == "other":
            kind = draw(st.sampled_from([feature.type, feature.type, *FEATURE_TYPES]))
            kept.append(draw(features(feature.name, kind)))
    if draw(st.booleans()) or not kept:
        kept.append(draw(features("added", draw(st.sampled_from(FEATURE_TYPES)))))
    unknown = draw(st.sampled_from(["reject", "ignore"]))
    return msgspec.structs.replace(old, features=tuple(kept), unknown_fields=unknown)


@given(st.data())
def test_no_row_that_was_answered_is_refused_by_a_contract_that_breaks_nobody(
    data: st.DataObject,
) -> None:
    old = data.draw(contracts())
    new = data.draw(changed(old))
    assume(not breaking_changes(old, new))
    row = data.draw(rows(old))
    if "added" in row:
        return  # a caller that sent a field before it existed was never promised anything
    if not RowReader(old).read_rows([row]).faults:
        assert not RowReader(new).read_rows([row]).faults
