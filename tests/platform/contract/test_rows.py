"""Rows are read by the contract: the fast and the slow reading agree, and nothing crashes them."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_service.contract.contract import (
    FEATURE_TYPES,
    Contract,
    Feature,
    Policy,
    PolicyAction,
)
from model_service.contract.rows import BodyError, ReadRows, RowReader
from tests.platform.contract.contracts_and_rows import (
    OUTPUT,
    PASS,
    REJECT,
    contracts,
    features,
    rows,
    same,
)

CODES = {
    *("missing", "wrong_type", "unknown_category", "out_of_range", "unknown_field"),
    *("not_a_number", "too_long", "wrong_length", "not_an_object", "invalid_json"),
}
quick = settings(deadline=None, derandomize=True, max_examples=100, database=None)
quicker = settings(quick, max_examples=20)


def contract_of(*features: Feature, **given: Any) -> Contract:
    return Contract(
        name="a_model",
        contract_version="1.0",
        description="",
        features=features,
        output=OUTPUT,
        **given,
    )


def body_of(*rows: object) -> bytes:
    return json.dumps({"rows": rows}).encode()


def read_one(feature: Feature, value: object) -> ReadRows:
    """Read `value` as a JSON text if it is bytes, and as a value otherwise."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    name = json.dumps(feature.name).encode()
    body = b'{"rows": [{' + name + b": " + text + b"}]}"
    return RowReader(contract_of(feature)).read_body(body)[0]


def outcome(feature: Feature, value: object) -> object:
    """Return the value that the model gets, or the code of the fault."""
    read = read_one(feature, value)
    return read.faults[0][0].code if read.faults else read.values[0][0]


def assert_well_formed(contract: Contract, read: ReadRows, sent: list[Any]) -> None:
    """Every row is answered or refused, and each fault points to a field that the row may have."""
    assert sorted([*read.positions, *read.faults]) == list(range(read.count))
    assert len(read.values) == len(read.positions)
    assert set(read.warnings) <= set(read.positions)
    for position, faults in read.faults.items():
        assert faults
        for fault in faults:
            assert fault.code in CODES
            assert fault.message
            if fault.pointer:
                assert fault.pointer.startswith("/")
                named = fault.pointer[1:].replace("~1", "/").replace("~0", "~")
                row = sent[position]
                assert named in contract.feature_names or any(k[:80] == named for k in row)
    for values in read.values:
        assert len(values) == len(contract.features)


# --- both readings agree ------------------------------------------------------------------------


@quick
@given(st.data())
def test_the_fast_and_the_slow_reading_agree_on_every_row(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    sent = data.draw(st.lists(rows(contract), min_size=1, max_size=3))
    reader = RowReader(contract)
    fast, _ = reader.read_body(body_of(*sent))
    slow = reader.read_rows(sent)
    assert list(fast.positions) == list(slow.positions)
    assert fast.faults == slow.faults
    assert fast.warnings == slow.warnings
    for one, other in zip(fast.values, slow.values, strict=True):
        assert all(map(same, one, other)), (one, other)


@quick
@given(st.data())
def test_every_row_is_read_or_refused_with_a_pointer(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    sent = data.draw(st.lists(rows(contract), min_size=1, max_size=4))
    read, _ = RowReader(contract).read_body(body_of(*sent))
    assert_well_formed(contract, read, sent)


@quick
@given(st.data())
def test_a_row_is_read_the_same_whatever_its_neighbours_are(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    sent = data.draw(st.lists(rows(contract), min_size=2, max_size=4))
    reader = RowReader(contract)
    together, _ = reader.read_body(body_of(*sent))
    values = dict(zip(together.positions, together.values, strict=True))
    for position, row in enumerate(sent):
        alone, _ = reader.read_body(body_of(row))
        assert alone.faults.get(0) == together.faults.get(position)
        assert alone.warnings.get(0) == together.warnings.get(position)
        assert (alone.values[0] if alone.values else None) == values.get(position)


@quick
@given(st.data())
def test_accepted_rows_become_columns_of_the_promised_types(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    sent = data.draw(st.lists(rows(contract), min_size=1, max_size=3))
    reader = RowReader(contract)
    values = reader.read_rows(sent).values
    columns = reader.columns(values)
    assert tuple(columns) == contract.feature_names
    for index, feature in enumerate(contract.features):
        column = columns[feature.name]
        text, moments = feature.is_text, feature.type == "datetime"
        assert column.dtype == (object if text else "datetime64[us]" if moments else np.float64)
        shape = (len(values), feature.length) if feature.type == "vector" else (len(values),)
        assert column.shape == shape
        for cell, row in zip(column, values, strict=True):
            if row[index] is None:
                missing = (
                    cell == "" if text else np.isnat(cell) if moments else np.isnan(cell).all()
                )
                assert missing
            elif text:
                assert cell == row[index]
            elif not moments:
                assert np.isfinite(cell).all()


# --- anything may be sent -------------------------------------------------------------------------

ACTIONS: tuple[PolicyAction, ...] = ("reject", "pass")
MIXED = contract_of(
    *(
        Feature(
            name=f"{kind}_{action}",
            type=kind,
            categories=("a", "b") if kind == "category" else (),
            length=2 if kind == "vector" else None,
            on_missing=Policy(action),
        )
        for kind in FEATURE_TYPES
        for action in ACTIONS
    )
)
DEEP = 100_000
HOSTILE = [
    b"",
    b" ",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"null",
    b"[]",
    b'{"rows"',
    b'{"rows": {}}',
    b'{"rows": "rows"}',
    b'{"rows": [1, null, "x", []]}',
    b'{"rows": [{}], "rows": 3}',
    b'{"rows": [{"number_pass": 1e999}]}',
    b'{"rows": [{"number_pass": NaN}]}',
    b'{"rows": [{"number_pass": -Infinity}]}',
    b'{"rows": [{"string_pass": "\\ud800"}]}',
    b'{"rows": [{"\\ud800": 1}]}',
    b'{"rows": [{"string_pass": "\xff"}]}',
    b'{"\\ud800": 1}',
    b'{"rows": [{}], "entity": "\\udfff"}',
    b'{"rows": [{}], "entity": 3}',
    b'{"rows": [{"number_pass": ' + b"9" * 5000 + b"}]}",
    b'{"rows": [{"datetime_pass": "9999-12-31T23:59:59-23:59"}]}',
    b'{"rows": [{"datetime_pass": "0001-01-01T00:00:00+23:59"}]}',
    b"[" * DEEP,
    b'{"rows": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"rows": [{"vector_pass": ' + b"[" * DEEP + b"]" * DEEP + b"}]}",
    b'{"rows": [{"x": ' + b'{"x": ' * DEEP + b"1" + b"}" * DEEP + b"}]}",
    b'{"rows": [{}], "entity": ' + b"[" * DEEP + b"]" * DEEP + b"}",
]


def read_whatever_comes(reader: RowReader, body: bytes) -> None:
    """Read a body as serving does: nothing but a BodyError may come out of it."""
    try:
        read, entity = reader.read_body(body)
    except BodyError as refusal:
        msgspec.json.encode({"code": refusal.code, "detail": refusal.message})
        return
    assert sorted([*read.positions, *read.faults]) == list(range(read.count))
    assert entity is None or isinstance(entity, str)
    reader.columns(read.values)


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: repr(body[:40]))
def test_a_hostile_body_is_refused_in_our_own_words(body: bytes) -> None:
    read_whatever_comes(RowReader(MIXED), body)


@quick
@given(st.binary(max_size=60))
@example(b'{"rows": [{}]')
def test_arbitrary_bytes_never_crash_the_reading(body: bytes) -> None:
    read_whatever_comes(RowReader(MIXED), body)


@quick
@given(st.data())
def test_a_damaged_request_never_crashes_the_reading(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    body = bytearray(body_of(*data.draw(st.lists(rows(contract), min_size=1, max_size=2))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + 1] = data.draw(st.binary(max_size=3))
        if not body:
            break
    read_whatever_comes(RowReader(contract), bytes(body))


@pytest.mark.parametrize("template", ['{"rows": %s}', '{"rows": [{"f": %s}]}', '{"entity": %s}'])
def test_no_depth_of_nesting_crashes_the_reading(template: str) -> None:
    reader = RowReader(contract_of(Feature(name="f", type="number")))
    for depth in range(800, 1100):
        read_whatever_comes(reader, (template % ("[" * depth + "]" * depth)).encode())
        read_whatever_comes(reader, (template % ('{"f":' * depth + "1" + "}" * depth)).encode())


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b"{", "invalid_json", ""),
        (b'{"rows": [{"number_pass": NaN}]}', "invalid_json", ""),
        (b'{"rows": [{"number_pass": -Infinity}]}', "invalid_json", ""),
        (b'{"rows": [{}]}\xff', "invalid_json", ""),
        (b"3", "not_an_object", ""),
        (b"{}", "missing_rows", "/rows"),
        (b'{"rows": null}', "wrong_type", "/rows"),
        (b'{"rows": []}', "empty_rows", "/rows"),
        (b'{"rows": [{},{},{}]}', "too_many_rows", "/rows"),
        (b'{"rows": [{}], "entity": 3}', "wrong_type", "/entity"),
        (b'{"rows": [{}], "row/s": 3}', "unknown_field", "/row~1s"),
    ],
)
def test_a_body_without_readable_rows_says_what_is_wrong(
    body: bytes, code: str, pointer: str
) -> None:
    with pytest.raises(BodyError) as caught:
        RowReader(MIXED, rows_limit=2).read_body(body)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)
    assert caught.value.message


@pytest.mark.parametrize("sent", [b'{"f": 1}', b'{"f": null}'], ids=["fast", "slow"])
def test_the_entity_is_read_on_both_paths(sent: bytes) -> None:
    reader = RowReader(contract_of(Feature(name="f", type="number", on_missing=PASS)))
    assert reader.read_body(b'{"rows": [' + sent + b'], "entity": "k-1"}')[1] == "k-1"
    for long in (256, 257):
        body = b'{"rows": [' + sent + b'], "entity": "' + b"k" * long + b'"}'
        if long == 257:
            with pytest.raises(BodyError, match="256"):
                reader.read_body(body)
        else:
            assert reader.read_body(body)[1] == "k" * long


def test_of_a_field_that_comes_twice_the_last_one_counts() -> None:
    reader = RowReader(contract_of(Feature(name="f", type="number", on_missing=PASS)))
    for body in (b'{"f": 1, "f": 2}', b'{"f": "x", "f": 2}', b'{"f": null, "f": 2.0}'):
        read, _ = reader.read_body(b'{"rows": [' + body + b"]}")
        assert read.values == [(2.0,)]
        assert not read.warnings


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("number", 3, 3.0),
        ("number", True, "wrong_type"),
        ("number", "3", "wrong_type"),
        ("number", [3], "wrong_type"),
        ("number", b"1e999", "not_a_number"),
        ("number", 10**400, "not_a_number"),
        ("integer", b"3.0", 3),
        ("integer", 3.5, "wrong_type"),
        ("integer", False, "wrong_type"),
        ("integer", 2**53, 2**53),
        ("integer", 2**53 + 1, "not_a_number"),
        ("integer", -(2**63) - 1, "not_a_number"),
        ("boolean", True, True),
        ("boolean", 1, "wrong_type"),
        ("boolean", "true", "wrong_type"),
        ("string", "", "missing"),
        ("string", 3, "wrong_type"),
        ("string", "sechs!", "too_long"),
        ("string", "größe", "größe"),
        ("category", 3, "wrong_type"),
        ("category", "", "missing"),
        ("datetime", "2026-01-31T12:00:00", "wrong_type"),
        ("datetime", "2026-02-31T12:00:00Z", "wrong_type"),
        ("datetime", 0, "wrong_type"),
        ("vector", [1, 2.5], [1.0, 2.5]),
        ("vector", [1], "wrong_length"),
        ("vector", [1, True], "wrong_type"),
        ("vector", [1, None], "wrong_type"),
        ("vector", b"[1, 1e999]", "not_a_number"),
        ("vector", 3, "wrong_type"),
    ],
)
def test_a_value_is_taken_only_as_what_it_is(kind: Any, value: object, expected: object) -> None:
    categories = ("a",) if kind == "category" else ()
    feature = Feature(name="f", type=kind, categories=categories, length=2, max_length=5)
    assert same(outcome(feature, value), expected)


def test_a_moment_is_turned_into_coordinated_universal_time() -> None:
    reader = RowReader(contract_of(Feature(name="t", type="datetime")))
    read, _ = reader.read_body(body_of({"t": "2026-01-31T12:00:00.25+02:00"}))
    assert reader.columns(read.values)["t"][0] == np.datetime64("2026-01-31T10:00:00.250000")


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_at_the_end_of_the_calendar_is_answered_or_refused(moment: str) -> None:
    reader = RowReader(contract_of(Feature(name="t", type="datetime")))
    read, _ = reader.read_body(body_of({"t": moment}))
    assert read.faults or len(reader.columns(read.values)["t"]) == 1


# --- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FEATURE_TYPES)
@pytest.mark.parametrize("row", [{}, {"f": None}, {"f": ""}], ids=["absent", "null", "empty"])
@quicker
@given(data=st.data())
def test_a_missing_value_is_treated_as_the_policy_says(
    kind: Any, row: dict[str, Any], data: st.DataObject
) -> None:
    feature = data.draw(features("f", kind))
    read, _ = RowReader(contract_of(feature)).read_body(body_of(row))
    if row.get("f") == "" and not feature.is_text:
        assert read.faults[0][0].code == "wrong_type"
    elif feature.on_missing == REJECT:
        assert [fault.code for fault in read.faults[0]] == ["missing"]
        assert read.faults[0][0].pointer == "/f"
    else:
        (warning,) = read.warnings[0]
        assert (warning.feature, warning.problem) == ("f", "missing")
        assert warning.action == feature.on_missing.action
        if feature.on_missing == PASS:
            assert read.values[0][0] is None
        else:
            assert read.values[0][0] is not None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(REJECT, "unknown_category"), (PASS, "new"), (Policy("map_to", "a"), "a")],
)
def test_a_new_category_is_treated_as_the_policy_says(policy: Policy, expected: str) -> None:
    feature = Feature(name="f", type="category", categories=("a",), on_unknown=policy)
    assert outcome(feature, "new") == expected
    warnings = read_one(feature, "new").warnings.get(0, ())
    assert [(w.problem, w.action) for w in warnings] == (
        [] if policy == REJECT else [("unknown_category", policy.action)]
    )
    assert not read_one(feature, "a").warnings


MOMENTS = [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 31)]


@pytest.mark.parametrize("action", ["reject", "clip", "pass"])
@pytest.mark.parametrize(
    ("kind", "low", "high", "value", "clipped"),
    [
        ("number", 0, 10, 10.5, 10.0),
        ("number", 0.5, None, -1, 0.5),
        ("integer", 0, 10, 11, 10),
        ("integer", 0, 10, -(2**53), 0),
        ("vector", 0, 10, [11, 5], [10.0, 5.0]),
        ("vector", 0, 10, [11, -5], [10.0, 0.0]),
        ("datetime", *MOMENTS, "2026-02-01T00:00:00Z", MOMENTS[1]),
        ("datetime", *MOMENTS, "2026-01-01T00:30:00+01:00", MOMENTS[0]),
    ],
)
def test_a_value_out_of_range_is_treated_as_the_policy_says(
    action: Any, kind: Any, low: Any, high: Any, value: object, clipped: object
) -> None:
    feature = Feature(
        name="f", type=kind, minimum=low, maximum=high, length=2, on_out_of_range=Policy(action)
    )
    got, read = outcome(feature, value), read_one(feature, value)
    if action == "reject":
        assert got == "out_of_range"
        return
    assert [(w.problem, w.action) for w in read.warnings[0]] == [("out_of_range", action)]
    if action == "clip":
        assert same(got, clipped)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", 0),
        ("number", 10.0),
        ("integer", 10),
        ("vector", [0, 10]),
        ("datetime", "2026-01-31T02:00:00+02:00"),
    ],
)
def test_the_bounds_themselves_are_in_range(kind: Any, value: object) -> None:
    low, high = MOMENTS if kind == "datetime" else (0, 10)
    read = read_one(Feature(name="f", type=kind, minimum=low, maximum=high, length=2), value)
    assert not read.faults
    assert not read.warnings


@pytest.mark.parametrize("rule", ["reject", "ignore"])
@pytest.mark.parametrize("name", ["extra", "a/b", "~", "数", "x" * 500])
def test_an_unknown_field_is_treated_as_the_contract_says(rule: Any, name: str) -> None:
    contract = contract_of(Feature(name="f", type="number"), unknown_fields=rule)
    read, _ = RowReader(contract).read_body(body_of({"f": 1, name: [1]}, {"f": 2}))
    if rule == "reject":
        (fault,) = read.faults[0]
        assert fault.code == "unknown_field"
        assert fault.pointer == "/" + name[:80].replace("~", "~0").replace("/", "~1")
        assert list(read.positions) == [1]
    else:
        (warning,) = read.warnings[0]
        assert (warning.feature, warning.problem) == (name[:80], "unknown_field")
        assert read.values == [(1.0,), (2.0,)]


@pytest.mark.parametrize("rule", ["reject", "ignore"])
def test_a_thousand_unknown_fields_are_not_all_named(rule: Any) -> None:
    contract = contract_of(Feature(name="f", type="number"), unknown_fields=rule)
    row = {"f": 1, **{f"x{number}": 1 for number in range(1000)}}
    read, _ = RowReader(contract).read_body(body_of(row))
    found = read.faults[0] if rule == "reject" else read.warnings[0]
    assert len(found) == 20


def test_every_fault_of_a_row_is_named_at_once() -> None:
    contract = contract_of(
        Feature(name="a", type="number"),
        Feature(name="b", type="category", categories=("x",)),
        Feature(name="c", type="boolean"),
    )
    read, _ = RowReader(contract).read_body(body_of({"a": "1", "b": "y", "d": 1}))
    found = {(fault.pointer, fault.code) for fault in read.faults[0]}
    assert found == {
        ("/a", "wrong_type"),
        ("/b", "unknown_category"),
        ("/c", "missing"),
        ("/d", "unknown_field"),
    }


def test_a_sensitive_value_is_in_no_message() -> None:
    feature = Feature(name="f", type="category", categories=("a",), sensitive=True, on_unknown=PASS)
    assert "secret" not in read_one(feature, "secret").warnings[0][0].message
    number = Feature(name="f", type="number", maximum=1, sensitive=True)
    assert "4711" not in read_one(number, 4711).faults[0][0].message
