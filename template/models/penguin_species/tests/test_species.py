"""What the champion of penguin_species must do whatever its metrics say."""

from typing import Any

import pytest

from model_service.registry.champion import load_champion

pytestmark = pytest.mark.behaviour
MODEL = load_champion("penguin_species")
ADELIE = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "body_mass_g": 3750,
    "sex": "male",
}


def probability_of(species: str, **changes: Any) -> float:
    read = MODEL.reader.read_rows([ADELIE | changes])
    probabilities = MODEL.predict(read.values).probabilities
    assert probabilities is not None
    return float(probabilities[0, MODEL.contract.output.classes.index(species)])


def test_a_typical_adelie_is_recognised() -> None:
    assert probability_of("Adelie") > 0.9


def test_a_longer_bill_speaks_for_chinstrap() -> None:
    assert probability_of("Chinstrap", bill_length_mm=50) > probability_of("Chinstrap")


def test_not_knowing_the_sex_does_not_change_the_species() -> None:
    assert probability_of("Adelie", sex=None) > 0.5


def test_a_tenth_of_a_millimetre_changes_little() -> None:
    assert abs(probability_of("Adelie", bill_length_mm=39.2) - probability_of("Adelie")) < 0.02
