"""A repository whose model is trained on enough rows to be watched: `flats`, dear or cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from model_service.repository import Repository
from model_service.training import train

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "flats"
ROWS = 6_000
FEATURES = ("area", "rooms", "floor", "age", "noise")
CONTRACT = """\
name: flats
contract_version: "1.0"
description: Tells dear flats from cheap ones.
unknown_fields: reject
features:
  area: {type: number, minimum: 0, maximum: 500, on_missing: {impute: 70}, on_out_of_range: clip}
  rooms: {type: integer, minimum: 0, maximum: 20, on_missing: {impute: 3}}
  floor: {type: number, minimum: -50, maximum: 50, on_missing: {impute: 3}, on_out_of_range: clip}
  age: {type: number, minimum: 0, maximum: 300, on_missing: {impute: 40}, on_out_of_range: clip}
  noise: {type: number, on_missing: {impute: 0}}
  heating: {type: category, categories: [gas, heat_pump, wood], on_missing: pass, on_unknown: pass}
output:
  name: price
  type: class
  classes: [cheap, dear]
  meaning: Dear flats cost more than most.
  calibrated: false
"""
TRAIN = """\
from pathlib import Path

import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from model_service.training import Gate

GATES = [Gate("accuracy", at_least=0.7), Gate("log_loss", at_most=0.6)]


def load():
    return pd.read_csv(Path(__file__).parents[2] / "flats.csv")


def build(seed):
    columns = ColumnTransformer([
        ("numbers", StandardScaler(), make_column_selector(dtype_include="number")),
        ("text", OneHotEncoder(handle_unknown="ignore"), ["heating"]),
    ])
    return make_pipeline(columns, LogisticRegression(random_state=seed))
"""
MODEL_YAML = "ground_truth: {expected: true, within_days: 30}\n"


def rows_like_training(count: int, seed: int, *, broken: str | None = None) -> list[dict[str, Any]]:
    """Rows with their `price`; `broken` names a feature that is shifted by one deviation."""
    chance = np.random.default_rng(seed)
    area = chance.gamma(9, 8, count)
    columns: dict[str, Any] = {
        "area": area,
        "rooms": np.clip(np.round(area / 25 + chance.normal(0, 0.7, count)), 0, 20).astype(int),
        "floor": chance.normal(3, 2, count),
        "age": chance.uniform(0, 120, count),
        "noise": chance.normal(0, 1, count),
        "heating": chance.choice(["gas", "heat_pump", "wood"], count, p=[0.6, 0.3, 0.1]),
    }
    score = (area - 72) / 24 - (columns["age"] - 60) / 60 + chance.normal(0, 0.8, count)
    if broken is not None:
        columns[broken] = columns[broken] + np.std(columns[broken])
    names = list(columns)
    found = []
    for values, dear in zip(zip(*columns.values(), strict=True), score > 0, strict=True):
        row = {
            name: value.item() if hasattr(value, "item") else value
            for name, value in zip(names, values, strict=True)
        }
        found.append(row | {"price": "dear" if dear else "cheap"})
    return found


def make_watched_repository(root: Path, service_yaml: str = "name: small\n") -> Repository:
    """Write the repository and train the first version of `flats`."""
    folder = root / "models" / MODEL
    folder.mkdir(parents=True)
    (root / "service.yaml").write_text(service_yaml, encoding="utf-8")
    (folder / "contract.yaml").write_text(CONTRACT, encoding="utf-8")
    (folder / "features.py").write_text("def features(columns):\n    return dict(columns)\n")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    (folder / "model.yaml").write_text(MODEL_YAML, encoding="utf-8")
    rows = rows_like_training(ROWS, seed=1)
    lines = [",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]
    (root / "flats.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    repository = Repository(root)
    train(repository, MODEL)
    return repository
