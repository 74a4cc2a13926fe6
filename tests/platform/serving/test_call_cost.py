"""Nobody is sent away because of what a model never took."""

from __future__ import annotations

import pytest

from model_service.serving.call_cost import CallCost


def learned(*calls: tuple[int, float]) -> CallCost:
    cost = CallCost()
    for rows, seconds in calls:
        cost.learn(rows, seconds)
    return cost


def test_nothing_is_expected_of_a_model_that_was_never_called() -> None:
    assert CallCost().expected(1_000, 1) == 0


def test_single_rows_are_not_held_against_a_thousand() -> None:
    cost = learned(*[(1, 0.004)] * 500)
    assert cost.expected(1_000, 1) < 0.05


def test_what_a_large_call_took_is_remembered_among_small_ones() -> None:
    cost = learned((1_000, 0.030), *[(1, 0.004)] * 100)
    assert cost.expected(1_000, 1) == pytest.approx(0.034, abs=0.002)
    assert cost.expected(1, 1) == pytest.approx(0.004, abs=0.001)


def test_a_model_that_is_slow_for_each_row_is_known_to_be() -> None:
    cost = learned((1, 0.010), (3, 0.030), (20, 0.200))
    assert cost.expected(60, 1) == pytest.approx(0.600)


def test_requests_that_are_answered_one_by_one_add_up() -> None:
    cost = learned(*[(1, 0.004)] * 50)
    assert cost.expected(100, 100) == pytest.approx(0.4)


def test_one_slow_call_is_forgotten_with_the_next() -> None:
    cost = learned(*[(1, 0.004)] * 50, (1, 3.0), (1, 0.004))
    assert cost.expected(10, 10) < 0.1


def test_a_model_that_became_quicker_is_known_to_be_after_a_while() -> None:
    cost = learned((1_000, 5.0), *[(100, 0.010)] * 300)
    assert cost.expected(100, 1) == pytest.approx(0.010, abs=0.005)
