"""Whatever a caller sends, each row is answered or refused with a reason, as its contract says.

Everything here goes over HTTP to a real server. `Caller.send` fails on any status of 500 and above.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.contract.examples import example_rows
from tests.answers import Caller, assert_is_an_answer
from tests.found_versions import Found, service_settings
from tests.strategies import (
    Dirt,
    clean_rows,
    mixed_rows,
    unknown_field,
    unknown_names,
    with_value,
)

TOKENS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan", "undefined", '"\\ud800"']


@given(data=st.data())
def test_a_clean_row_is_answered_without_a_warning(
    version: Found, caller: Caller, data: st.DataObject
) -> None:
    assert version.contract is not None
    rows = data.draw(st.lists(clean_rows(version.contract), min_size=1, max_size=5))
    caller.check(version, [(row, {}) for row in rows])


@given(data=st.data())
def test_a_dirty_value_gets_an_answer_or_a_reason(
    version: Found, feature_dirt: tuple[str, Dirt], caller: Caller, data: st.DataObject
) -> None:
    assert version.contract is not None
    name, dirt = feature_dirt
    row = data.draw(clean_rows(version.contract))
    values = data.draw(st.lists(dirt.values, min_size=1, max_size=4))
    sent = [(with_value(row, name, value), {name: dirt.expected}) for value in values]
    caller.check(version, [*sent, (row, {})])
    caller.check(version, sent[:1])


@given(data=st.data())
def test_an_extra_field_is_treated_as_the_contract_says(
    version: Found, caller: Caller, data: st.DataObject
) -> None:
    assert version.contract is not None
    row = data.draw(clean_rows(version.contract))
    name = data.draw(unknown_names(version.contract))
    extra = row | {name: data.draw(st.none() | st.integers() | st.text(max_size=5))}
    caller.check(version, [(extra, {name: unknown_field(version.contract)}), (row, {})])


@settings(max_examples=40)
@given(data=st.data())
def test_a_bad_row_costs_its_neighbours_nothing(
    version: Found, caller: Caller, data: st.DataObject
) -> None:
    assert version.contract is not None
    sent = data.draw(st.lists(mixed_rows(version.contract), min_size=1, max_size=6))
    caller.check(version, sent)


@pytest.mark.parametrize("token", TOKENS)
@given(data=st.data())
@settings(max_examples=2)
def test_a_number_that_is_not_json_is_refused(
    version: Found, caller: Caller, token: str, data: st.DataObject
) -> None:
    assert version.contract is not None
    row = data.draw(clean_rows(version.contract))
    for name in row:
        text = json.dumps({"rows": [row | {name: "@@"}]}).replace('"@@"', token)
        response = caller.send(version, text.encode())
        assert response.status_code in (400, 422), response.text
        assert response.json()["faults"], response.text


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b'{"rows": []}', 400, "/rows"),
        (b'{"rows": {}}', 400, "/rows"),
        (b'{"rows": null}', 400, "/rows"),
        (b"{}", 400, "/rows"),
        (b'{"rows": [3]}', 422, "/rows/0"),
        (b'{"rows": [null, []]}', 422, "/rows/0"),
        (b"[]", 400, ""),
        (b'{"rows": [', 400, ""),
        (b"\xff\xfe", 400, ""),
        (b"[" * 5000, 400, ""),
    ],
    ids=[
        *("no_rows", "object", "null", "no_field", "number_as_row", "null_as_row"),
        *("list", "cut_off", "not_utf8", "deep"),
    ],
)
def test_a_body_without_rows_is_refused_in_the_shape_of_all_errors(
    version: Found, caller: Caller, body: bytes, status: int, pointer: str
) -> None:
    response = caller.send(version, body)
    problem = response.json()
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert problem["status"] == status
    assert {"type", "title", "detail", "request_id"} <= problem.keys()
    assert problem["faults"][0]["pointer"] == pointer


def test_ten_thousand_rows_are_answered_and_one_more_than_the_limit_is_refused(
    version: Found, caller: Caller
) -> None:
    """The number of rows is what `limits` in service.yaml allows, 10,000 unless the team said."""
    assert version.contract is not None
    limits = service_settings().limits
    row = example_rows(version.contract)[0]
    size = len(json.dumps(row)) + 2
    count = min(limits.rows_per_request, (limits.body_bytes - 100) // size)
    answers = caller.answers(version, [row] * count)
    for answer in answers:
        assert_is_an_answer(version.contract, answer)
    assert len({answer["prediction_id"] for answer in answers}) == count
    too_many = caller.send(version, [row] * (count + 1 + 100 // size))
    assert too_many.status_code == 413, too_many.text
