"""The blind-spot card: what watching a version would find within a day, and what never."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model_service.drift.blind_spots import BlindSpots, blind_features, read_blind_spots
from model_service.training import TrainedVersion, TrainingError, train
from tests.platform.training.small_repository import NAME, TRAIN, make_repository

if TYPE_CHECKING:
    from pathlib import Path


def trained(root: Path, rows_per_day: int, **changes: str) -> TrainedVersion:
    repository = make_repository(root, **changes)
    settings = f"traffic: {{rows_per_day: {rows_per_day}}}\n"
    (repository.model_folder(NAME) / "model.yaml").write_text(settings)
    return train(repository, NAME)


def card(version: TrainedVersion) -> BlindSpots:
    found = read_blind_spots(version.folder)
    assert found is not None
    return found


def smallest(spots: BlindSpots, feature: str, fault: str) -> float | None:
    (size,) = (each.size for each in spots.features[feature] if each.fault == fault)
    return size


def test_much_traffic_finds_what_little_traffic_cannot(tmp_path: Path) -> None:
    much, little = trained(tmp_path / "much", 20_000), trained(tmp_path / "little", 10)
    assert blind_features(much.folder) == ()
    for feature in ("weight", "length"):
        found = smallest(card(much), feature, "shift")
        assert found is not None
        assert found <= 1
        assert smallest(card(much), feature, "unit") == 2.54
        assert smallest(card(little), feature, "shift") != found
    assert smallest(card(much), "colour", "new category") is not None
    assert "length" in (blind_features(little.folder) or ())
    assert "**Blind for:" in (little.folder / "card.md").read_text()
    assert "weight | shift" in (much.folder / "card.md").read_text()


def test_held_out_rows_raise_no_false_alarm_and_the_budget_stands_beside(tmp_path: Path) -> None:
    alarms = card(trained(tmp_path, 1000)).false_alarms
    assert alarms.alarms == 0
    assert alarms.windows == 4
    assert alarms.budget == 0.1


def test_the_card_is_the_same_each_time(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    assert card(train(repository, NAME)) == card(train(repository, NAME))


def test_times_that_the_recipe_names_are_those_of_the_data_or_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"TIME in train\.py names 'when', which is no column"):
        trained(tmp_path, 1000, train=f'{TRAIN}\nTIME = "when"\n')


def test_a_version_without_a_card_is_unknown_and_not_blind(tmp_path: Path) -> None:
    assert blind_features(tmp_path) is None
