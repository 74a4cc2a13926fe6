"""Fit the pipeline that every peer serves, and package it as versions of the service.

    python fit.py FOLDER     in the environment of a rendered service, whose root is the working
                             directory

Writes `model.joblib` and `model.onnx` of the pipeline that converts, `kept/model.joblib` of one
that stays in scikit-learn, and `rows.json`, 1,000 rows to ask for.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer, StandardScaler

from model_service import package

NUMBERS = [f"number_{index}" for index in range(7)]
TEXT = ["region", "plan", "channel"]


def table(rows: int) -> tuple[pd.DataFrame, pd.Series[str]]:
    """Return rows with seven numbers and three categories, and a label that depends on them."""
    chance = np.random.default_rng(5)
    frame = pd.DataFrame({name: chance.normal(size=rows).round(4) for name in NUMBERS})
    for name, values in zip(TEXT, (["n", "e", "s", "w"], ["a", "b", "c"], ["x", "y"]), strict=True):
        frame[name] = chance.choice(values, size=rows)
    score = frame["number_0"] - frame["number_3"] + (frame["region"] == "n") * 0.8
    label = np.where(score + chance.normal(size=rows) > 0, "yes", "no")
    return frame, pd.Series(label, name="label")


def pipeline(numbers: object) -> Pipeline:
    """Return the pipeline of the benchmark with a step for its numbers."""
    columns = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("text", OneHotEncoder(handle_unknown="ignore"), TEXT)]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


def main() -> None:
    """Fit both pipelines and write everything."""
    folder = Path(sys.argv[1])
    (folder / "kept").mkdir(parents=True, exist_ok=True)
    frame, label = table(5_000)
    held_out, truth = frame[4_000:], label[4_000:]
    for name, step, where in (
        ("converted", StandardScaler(), folder),
        ("kept", SplineTransformer(), folder / "kept"),
    ):
        fitted = pipeline(step).fit(frame[:4_000], label[:4_000])
        version = package(fitted, held_out, truth, name=name)
        joblib.dump(fitted, where / "model.joblib")
        if version.format == "onnx":
            shutil.copy(version.folder / "model.onnx", where / "model.onnx")
    (folder / "rows.json").write_text(json.dumps(held_out.to_dict("records")))


if __name__ == "__main__":
    main()
