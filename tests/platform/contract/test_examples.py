"""Examples are rows that the contract takes as they are, and answers of the right shape."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings

from model_service.contract.contract import Contract, Feature, Output
from model_service.contract.examples import example_answer, example_rows, example_value
from model_service.contract.rows import RowReader
from tests.platform.contract.contracts_and_rows import OUTPUT, contracts


def contract_of(*features: Feature, output: Output = OUTPUT, **given: Any) -> Contract:
    return Contract(
        name="m",
        contract_version="1.0",
        description="",
        features=features,
        output=output,
        **given,
    )


def a_class(*classes: str, **given: Any) -> Contract:
    output = Output(name="y", type="class", meaning="y", classes=classes, **given)
    return contract_of(Feature(name="x", type="number"), output=output)


def has_a_whole_number(feature: Feature) -> bool:
    """Whether a range of an integer holds one: `contracts()` draws 0.2 to 0.4 as well."""
    if feature.type != "integer" or feature.minimum is None or feature.maximum is None:
        return True
    assert not isinstance(feature.minimum, dt.datetime)
    assert not isinstance(feature.maximum, dt.datetime)
    return -(-feature.minimum // 1) <= feature.maximum


@settings(max_examples=150, deadline=None)
@given(contracts())
def test_a_made_row_is_taken_as_it_is(contract: Contract) -> None:
    assume(all(map(has_a_whole_number, contract.features)))
    rows = example_rows(contract)
    sent = msgspec.json.decode(msgspec.json.encode(rows))
    read = RowReader(contract).read_rows(sent)
    assert len(read.values) == len(rows) == 1
    assert not read.faults
    assert not read.warnings


def test_declared_examples_come_first() -> None:
    declared = ({"x": 1.0}, {"x": 2.0})
    contract = contract_of(Feature(name="x", type="number", example=9.0), examples=declared)
    assert example_rows(contract) == [{"x": 1.0}, {"x": 2.0}]


def test_the_rows_are_copies() -> None:
    contract = contract_of(Feature(name="x", type="number"), examples=({"x": 1.0},))
    example_rows(contract)[0]["x"] = 2.0
    assert contract.examples[0] == {"x": 1.0}


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (Feature(name="x", type="number", minimum=25, maximum=70), 48.0),
        (Feature(name="x", type="number", minimum=0.61, maximum=0.63), 0.62),
        (Feature(name="x", type="integer", minimum=2.5), 3),
        (Feature(name="x", type="integer", maximum=-2.5), -3),
        (Feature(name="x", type="string", max_length=2), "te"),
        (Feature(name="x", type="datetime"), "2026-01-31T12:00:00Z"),
        (Feature(name="x", type="number", example=33.3), 33.3),
        (Feature(name="x", type="vector", length=2, maximum=-1), [-1.0, -1.0]),
    ],
)
def test_a_made_value_is_clean_and_readable(feature: Feature, value: Any) -> None:
    made = example_value(feature)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_made_probabilities_add_up_and_agree_with_the_value(count: int) -> None:
    answer = example_answer(a_class(*(f"c{i}" for i in range(count))))
    shares = answer.probabilities
    assert shares
    assert sum(shares.values()) == pytest.approx(1, abs=1e-9)
    assert min(shares.values()) > 0
    assert answer.value == max(shares, key=lambda name: shares[name])


def test_a_made_value_follows_the_thresholds() -> None:
    assert example_answer(a_class("no", "yes")).value == "no"
    assert example_answer(a_class("no", "yes", thresholds={"yes": 0.1})).value == "yes"
    assert example_answer(a_class("no", "yes", thresholds={"no": 0.9})).value == "yes"


def test_numbers_and_vectors_lie_in_their_range() -> None:
    number = Output(name="y", type="number", meaning="y", minimum=2000, maximum=7000)
    vector = Output(name="y", type="vector", meaning="y", length=3, minimum=-2)
    x = Feature(name="x", type="number")
    assert example_answer(contract_of(x, output=number)).value == 4500
    assert example_answer(contract_of(x, output=vector)).value == [-2.0] * 3
    assert example_answer(contract_of(x)).probabilities is None
