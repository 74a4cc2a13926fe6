"""What the champion of penguin_mass must do whatever its metrics say."""

from typing import Any

import pytest

from model_service.registry.champion import load_champion

pytestmark = pytest.mark.behaviour
MODEL = load_champion("penguin_mass")
BIRD = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "sex": "male",
}


def mass(**changes: Any) -> float:
    read = MODEL.reader.read_rows([BIRD | changes])
    return float(MODEL.predict(read.values).values[0])


def test_a_typical_bird_weighs_what_birds_weigh() -> None:
    assert 3000 < mass() < 4500


def test_longer_flippers_weigh_more() -> None:
    assert mass(flipper_length_mm=220) > mass(flipper_length_mm=190)


def test_males_weigh_more_than_females() -> None:
    assert mass(sex="male") > mass(sex="female")


def test_an_unknown_island_is_answered_like_the_one_it_is_mapped_to() -> None:
    assert mass(island="Atlantis") == mass(island="Dream")
