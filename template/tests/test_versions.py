"""A version answers today as it did when it was trained, whoever its neighbours are."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_service.contract.rows import Columns, ReadRows
from model_service.registry.golden import GoldenPrediction, differences
from model_service.registry.loaded_version import LoadedVersion, load_version
from tests.answers import Caller, assert_same_answer
from tests.found_versions import Found
from tests.strategies import mixed_rows

BATCH = 12


def loaded(version: Found) -> LoadedVersion:
    """Return the version as the service has it in memory."""
    return _loaded_from(version.folder)


@cache
def _loaded_from(folder: Path) -> LoadedVersion:
    return load_version(folder)


def golden_rows(version: Found) -> list[dict[str, Any]]:
    """Return the raw rows whose answers were kept when the version was trained."""
    return [golden.row for golden in loaded(version).golden]


def test_the_golden_predictions_are_answered_as_they_were(version: Found) -> None:
    assert loaded(version).replay_golden() == []


def test_the_service_answers_the_golden_rows_as_they_were(version: Found, caller: Caller) -> None:
    golden = loaded(version).golden
    answers = caller.answers(version, golden_rows(version))
    for expected, answer in zip(golden, answers, strict=True):
        warnings = tuple((w["feature"], w["problem"], w["action"]) for w in answer["warnings"])
        actual = GoldenPrediction(
            expected.row, answer["value"], answer.get("probabilities"), warnings
        )
        assert differences(expected, actual) == [], (expected, answer)


def test_the_size_of_the_batch_changes_no_answer(version: Found, caller: Caller) -> None:
    rows = golden_rows(version)[:50]
    together = caller.answers(version, rows)
    for row, answer in zip(rows, together, strict=True):
        (alone,) = caller.answers(version, [row])
        assert_same_answer(alone, answer)


def test_the_order_of_the_rows_changes_no_answer(version: Found, caller: Caller) -> None:
    rows = golden_rows(version)
    answers = caller.answers(version, rows)
    backwards = caller.answers(version, rows[::-1])
    for answer, again in zip(answers, reversed(backwards), strict=True):
        assert_same_answer(answer, again)


@given(data=st.data())
def test_dirty_neighbours_change_no_answer(
    version: Found, caller: Caller, data: st.DataObject
) -> None:
    assert version.contract is not None
    clean = golden_rows(version)[:BATCH]
    mixed = st.lists(mixed_rows(version.contract), min_size=1, max_size=4)
    dirty = [row for row, _ in data.draw(mixed)]
    alone = caller.answers(version, clean)
    beside = caller.answers(version, [*dirty, *clean])[len(dirty) :]
    for answer, again in zip(alone, beside, strict=True):
        assert_same_answer(answer, again)


@given(data=st.data())
def test_training_and_serving_compute_the_same_features(
    version: Found, data: st.DataObject
) -> None:
    """Training reads a table and computes the features of all rows in one call; serving reads
    JSON, and a row may come alone. Both must arrive at the same numbers, in the code that the
    version has frozen."""
    assert version.contract is not None
    served = loaded(version)
    drawn = data.draw(st.lists(mixed_rows(version.contract), max_size=4))
    rows = golden_rows(version)[:BATCH] + [row for row, _ in drawn]
    trained = served.reader.read_rows(rows)
    requested, _ = served.reader.read_body(json.dumps({"rows": rows}).encode())
    assert list(trained.positions) == list(requested.positions)
    _assert_same_columns(
        served.reader.columns(trained.values), served.reader.columns(requested.values)
    )
    together = dict(served.features(trained.values))
    one_by_one = _stacked(served, requested)
    _assert_same_columns(together, one_by_one)


def _stacked(served: LoadedVersion, read: ReadRows) -> Columns:
    alone = [served.features([values]) for values in read.values]
    return {name: np.concatenate([inputs[name] for inputs in alone]) for name in alone[0]}


def _assert_same_columns(one: Columns, other: Columns) -> None:
    assert one.keys() == other.keys()
    for name, column in one.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(other[name], column, rtol=1e-9, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(other[name], column, err_msg=name)
