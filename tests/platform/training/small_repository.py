"""A repository with one tiny model, which trains in a moment: `fruit`, apple or pear."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from model_service.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

NAME = "fruit"
CONTRACT = """\
name: fruit
contract_version: "1.0"
description: Tells apples from pears.
unknown_fields: reject
features:
  weight: {type: number, minimum: 0, maximum: 500, on_missing: {impute: 150}, on_out_of_range: clip}
  length: {type: number, unit: mm, minimum: 1, maximum: 300}
  colour: {type: category, categories: [green, red], on_missing: pass, on_unknown: pass}
output:
  name: kind
  type: class
  classes: [pear, apple]
  meaning: What it is.
  calibrated: false
examples:
  - {weight: 150, length: 70, colour: red}
"""
FEATURES = """\
def features(columns):
    return {**columns, "density": columns["weight"] / columns["length"]}
"""
TRAIN = """\
from pathlib import Path

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from model_service.training import Gate

GATES = [Gate("accuracy", at_least=0.8, better_than_baseline_by=0.1)]


def load():
    return pd.read_csv(Path(__file__).parents[2] / "data.csv")


def build(seed):
    columns = ColumnTransformer([
        ("numbers", StandardScaler(), ["weight", "length", "density"]),
        ("text", OneHotEncoder(handle_unknown="ignore"), ["colour"]),
    ])
    return make_pipeline(columns, LogisticRegression(random_state=seed))
"""


def make_repository(root: Path, **changes: str) -> Repository:
    """Write the repository; `contract`, `features` and `train` replace a file's text."""
    folder = root / "models" / NAME
    folder.mkdir(parents=True)
    (root / "service.yaml").write_text("name: small\n")
    (root / "data.csv").write_text(_data())
    (folder / "contract.yaml").write_text(changes.get("contract", CONTRACT))
    (folder / "features.py").write_text(changes.get("features", FEATURES))
    (folder / "train.py").write_text(changes.get("train", TRAIN))
    return Repository(root)


def with_estimator(expression: str, *, imports: str = "") -> str:
    """Return `train.py` with another estimator in `build()`, made from `columns`."""
    before, _, _ = TRAIN.rpartition("    return ")
    return f"{imports}\n{before}    return {expression}\n"


def _data() -> str:
    chance = random.Random(1)  # noqa: S311 - data, no secret
    lines = ["weight,length,colour,kind"]
    for index in range(160):
        pear = index % 2 == 0
        weight = chance.gauss(170, 15)
        length = chance.gauss(100 if pear else 70, 12)
        colour = chance.choice(["green", "green", "red"] if pear else ["red", "red", "green"])
        missing = index % 20 == 3
        lines.append(
            f"{'' if missing else round(weight, 1)},{length:.1f},"
            f"{'' if index % 25 == 4 else colour},{'pear' if pear else 'apple'}"
        )
    return "\n".join(lines) + "\n"
