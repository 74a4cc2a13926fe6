"""The checklist is complete, and every item can be proven or signed."""

from __future__ import annotations

from collections import Counter

from model_service.handoff.items import checklist
from model_service.handoff.ml_test_score import TESTS


def test_the_checklist_has_its_59_items() -> None:
    items = checklist()
    assert Counter(item.id.split("-")[0] for item in items) == {
        "OWN": 4,
        "CON": 11,
        "DAT": 8,
        "MOD": 7,
        "SRV": 6,
        "REL": 6,
        "OBS": 6,
        "SEC": 4,
        "OPS": 5,
        "LIF": 2,
    }
    assert Counter(item.kind for item in items) == {"auto": 39, "both": 13, "sign-off": 7}
    assert sum(item.is_asked_of("C") for item in items) == 26
    assert sum(item.is_asked_of("B") for item in items) == 57
    assert all(item.is_asked_of("A") for item in items)


def test_whoever_signs_knows_what() -> None:
    for item in checklist():
        assert bool(item.signers) == bool(item.signs), item.id
        assert item.kind != "sign-off" or item.signers, item.id


def test_the_28_tests_of_the_ml_test_score_name_items_that_exist() -> None:
    assert len(TESTS) == 28
    known = {item.id for item in checklist()}
    assert {item for _, item in TESTS.values() if item} <= known
