"""What a team declares about a model is read strictly, and all of it may be left out."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from model_service.model_settings import (
    ModelSettings,
    ModelSettingsError,
    read_model_settings,
)
from model_service.repository import Repository
from tests.rendering import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = sorted((ROOT / "template").rglob("model.yaml"))


def settings_of(folder: Path, text: str) -> ModelSettings:
    """Read `text` as the model.yaml of the model `churn`."""
    path = folder / "models" / "churn" / "model.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return read_model_settings(Repository(folder), "churn")


def test_a_model_without_the_file_has_every_default(tmp_path: Path) -> None:
    assert read_model_settings(Repository(tmp_path), "churn") == ModelSettings()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_what_is_shipped_is_understood(path: Path, tmp_path: Path) -> None:
    assert settings_of(tmp_path, path.read_text(encoding="utf-8")).traffic.rows_per_day == 1000


def test_the_examples_and_the_scaffold_ship_one() -> None:
    assert len(SHIPPED) == 3


def test_an_expected_change_goes_from_a_day_to_a_day(tmp_path: Path) -> None:
    changes = settings_of(
        tmp_path,
        "expected_changes: [{feature: age, from: 2026-12-01, until: 2026-12-31, reason: sale}]",
    ).expected_changes
    assert (changes[0].since, changes[0].until) == (dt.date(2026, 12, 1), dt.date(2026, 12, 31))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_age: 3", "Did you mean max_age_days?"),
        ("traffic: {rows_per_day: 0}", ">= 1"),
        ("traffic: {rows_per_da: 5}", "Did you mean traffic.rows_per_day?"),
        ("expected_changes: [{feature: age}]", "from"),
        ("- a", "object"),
        ("a: [", "cannot be read"),
        ("max_age_days: 3\nmax_age_days: 4", "a second time"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ModelSettingsError) as refused:
        settings_of(tmp_path, text)
    assert said in str(refused.value)
    assert str(tmp_path / "models/churn/model.yaml") in str(refused.value)
