"""A change of how features depend on each other, though each alone looks as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_service.contract.reading import parse_contract
from model_service.contract.rows import RowReader, RowValues
from model_service.drift.dependence import (
    Broken,
    broken,
    dependence_of,
    read_dependence,
    write_dependence,
)
from model_service.drift.profiling import Answers, profile_of
from model_service.registry.profile import ReferenceProfile

CONTRACT = parse_contract(
    """\
name: flat
contract_version: "1.0"
description: What a flat costs.
features:
  area: {type: number}
  rooms: {type: integer}
  heating: {type: number}
  quarter: {type: category, categories: [centre, edge]}
  lift: {type: boolean, on_missing: pass}
output: {name: rent, type: number, meaning: What it costs.}
""",
    Path("contract.yaml"),
    model="flat",
)
LEVEL = 0.1 / 30


class Flats:
    def __init__(self) -> None:
        self.chance = np.random.default_rng(5)
        self.reader = RowReader(CONTRACT)
        read = self.reader.read_rows(self.rows(3000))
        self.profile: ReferenceProfile = profile_of(CONTRACT, read, Answers([1.0, 2.0]))
        self.reference = dependence_of(CONTRACT, self.profile, read.values)

    def rows(self, count: int) -> list[dict[str, Any]]:
        area = self.chance.lognormal(4, 0.4, count)
        rooms = np.round(area / 25 + self.chance.normal(0, 0.7, count)).clip(1)
        heating = np.square(np.log(area) - 4) + self.chance.normal(0, 0.05, count)
        edge = self.chance.random(count) < 1 / (1 + np.exp(-(area - 55) / 15))
        return [
            {
                "area": float(area[i]),
                "rooms": int(rooms[i]),
                "heating": float(heating[i]),
                "quarter": "edge" if edge[i] else "centre",
                "lift": None if i % 10 == 0 else bool(self.chance.random() < 0.3),
            }
            for i in range(count)
        ]

    def broken(self, rows: list[dict[str, Any]]) -> list[Broken]:
        values: list[RowValues] = self.reader.read_rows(rows).values
        return broken(CONTRACT, self.profile, self.reference, values, LEVEL)


@pytest.fixture(scope="module")
def flats() -> Flats:
    return Flats()


def test_rows_that_depend_as_in_training_raise_nothing(flats: Flats) -> None:
    for size in (200, 500, 1000):
        assert [found for _ in range(30) for found in flats.broken(flats.rows(size))] == []


@pytest.mark.parametrize("feature", ["rooms", "heating", "quarter"])
def test_shuffling_a_column_among_its_rows_is_found(flats: Flats, feature: str) -> None:
    rows = flats.rows(600)
    column = [row[feature] for row in rows]
    flats.chance.shuffle(column)
    for row, cell in zip(rows, column, strict=True):
        row[feature] = cell
    found = flats.broken(rows)
    assert found
    assert all(feature in (each.first, each.second) for each in found)
    assert any("area" in (each.first, each.second) for each in found)


def test_too_few_rows_or_none_say_nothing(flats: Flats) -> None:
    assert flats.broken([]) == []
    assert flats.broken(flats.rows(50)) == []


def test_dependence_is_kept_with_the_version(flats: Flats, tmp_path: Path) -> None:
    assert read_dependence(tmp_path) is None
    write_dependence(tmp_path, flats.reference)
    assert read_dependence(tmp_path) == flats.reference


def test_a_shift_of_a_column_is_no_change_of_dependence(flats: Flats) -> None:
    rows = flats.rows(1000)
    for row in rows:
        row["area"] += 3
    assert flats.broken(rows) == []
