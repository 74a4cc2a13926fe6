"""Metrics with their intervals, and the estimate that comes before the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as oracle

from model_service.contract.contract import Contract
from model_service.contract.reading import parse_contract
from model_service.drift.quality import calibration_of, estimated, measured, metrics, wilson

CONTRACT = """\
name: any
contract_version: "1.0"
description: Any model.
features: {a: {type: number}}
output: {name: out, meaning: What comes out., %s}
"""


def contract(output: str) -> Contract:
    return parse_contract(CONTRACT % output, Path("contract.yaml"), model="any")


TWO = contract('type: class, classes: ["no", "yes"], calibrated: false')
THREE = contract("type: class, classes: [a, b, c], calibrated: false")
NUMBER = contract("type: number")
VECTOR = contract("type: vector, length: 2")


def test_metrics_of_classes_are_those_of_scikit_learn() -> None:
    chance = np.random.default_rng(1)
    for asked in (TWO, THREE):
        classes = list(asked.output.classes)
        shares = chance.dirichlet(np.ones(len(classes)), 80).astype(np.float32)
        values = [classes[place] for place in shares.argmax(axis=1)]
        truth = [str(label) for label in chance.choice(classes, 80)]
        found = metrics(asked, values, shares, truth)
        exact = shares.astype(np.float64) / shares.astype(np.float64).sum(axis=1, keepdims=True)
        assert found["accuracy"] == pytest.approx(oracle.accuracy_score(truth, values))
        assert found["macro_f1"] == pytest.approx(oracle.f1_score(truth, values, average="macro"))
        assert found["log_loss"] == pytest.approx(oracle.log_loss(truth, exact, labels=classes))
        if asked is TWO:
            was = [label == "yes" for label in truth]
            assert found["roc_auc"] == pytest.approx(oracle.roc_auc_score(was, shares[:, 1]))


@pytest.mark.parametrize(("asked", "width"), [(NUMBER, 1), (VECTOR, 2)])
def test_metrics_of_numbers_are_those_of_scikit_learn(asked: Contract, width: int) -> None:
    chance = np.random.default_rng(2)
    truth, values = chance.normal(size=(2, 50, width)) * [1, 3][:width]
    found = metrics(asked, values.tolist(), None, truth.tolist())
    assert found["mae"] == pytest.approx(oracle.mean_absolute_error(truth, values))
    assert found["rmse"] == pytest.approx(oracle.root_mean_squared_error(truth, values))
    assert found["r2"] == pytest.approx(oracle.r2_score(truth, values))
    assert "r2" not in metrics(asked, values[:1].tolist(), None, truth[:1].tolist())


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def drawn(
    rows: int, chance: np.random.Generator, hardness: float
) -> tuple[list[str], object, list[str]]:
    """Draw scores, and truths that are as likely as the scores say; hard rows are near a half."""
    true = chance.beta(hardness, hardness, rows)
    truth = ["yes" if happened else "no" for happened in chance.random(rows) < true]
    score = true**2  # a model whose scores rank well and are no probabilities
    values = ["yes" if high else "no" for high in score > 0.25]
    return values, np.column_stack([1 - score, score]), truth


def test_intervals_hold_what_would_be_measured_in_many_rows() -> None:
    chance = np.random.default_rng(3)
    values, shares, truth = drawn(200_000, chance, 0.5)
    right = metrics(TWO, values, shares, truth)
    held = dict.fromkeys(right, 0)
    for _ in range(60):
        found = measured(TWO, *drawn(300, chance, 0.5))
        for name, value in right.items():
            held[name] += found[name].low <= value <= found[name].high
    assert all(50 <= count <= 60 for count in held.values()), held


def test_the_estimate_follows_rows_that_become_harder_without_any_truth() -> None:
    chance = np.random.default_rng(4)
    calibration = calibration_of(TWO, *drawn(4000, chance, 0.3))
    assert calibration is not None
    for hardness in (0.3, 1.0, 4.0):
        values, shares, truth = drawn(4000, chance, hardness)
        guess = estimated(TWO, calibration, values, shares)
        really = metrics(TWO, values, shares, truth)
        for name in ("accuracy", "roc_auc"):
            assert guess[name].value == pytest.approx(really[name], abs=0.03)
            assert guess[name].low < guess[name].value < guess[name].high


def test_a_few_rows_that_were_all_right_do_not_make_the_estimate_certain() -> None:
    shares = np.tile([0.9, 0.05, 0.05], (30, 1))
    calibration = calibration_of(THREE, ["a"] * 30, shares, ["a"] * 30)
    assert calibration is not None
    guess = estimated(THREE, calibration, ["a"] * 5000, np.tile([0.9, 0.05, 0.05], (5000, 1)))
    assert guess["accuracy"].value == 1
    assert guess["accuracy"].low < 0.9


def test_there_is_no_estimate_without_scores() -> None:
    assert calibration_of(NUMBER, [1.0], None, [1.0]) is None
