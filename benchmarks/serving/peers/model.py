"""The model that every peer serves, as a function from rows to probabilities.

Read from the folder `BENCHMARK_MODEL`: `model.joblib`, the fitted pipeline, and `model.onnx`, the
graph that the service made of it. `BENCHMARK_FORMAT` chooses between them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["BENCHMARK_MODEL"])
NUMBERS = tuple(f"number_{index}" for index in range(7))
TEXT = ("region", "plan", "channel")
Rows = Sequence[dict[str, Any]]
Predict = Callable[[Rows], list[list[float]]]


def load() -> Predict:
    """Return the function that answers rows, as a tutorial would write it for the format."""
    return _of_graph() if os.environ.get("BENCHMARK_FORMAT") == "onnx" else _of_pipeline()


def _of_pipeline() -> Predict:
    import joblib
    import pandas as pd

    pipeline = joblib.load(FOLDER / "model.joblib")

    def predict(rows: Rows) -> list[list[float]]:
        answers: list[list[float]] = pipeline.predict_proba(pd.DataFrame(list(rows))).tolist()
        return answers

    return predict


def _of_graph() -> Predict:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def predict(rows: Rows) -> list[list[float]]:
        numbers = np.array([[row[name] for name in NUMBERS] for row in rows], dtype=np.float32)
        text = np.array([[row[name] for name in TEXT] for row in rows], dtype=object)
        answers: list[list[float]] = session.run(None, {"numbers": numbers, "text": text})[-1]
        return np.asarray(answers).tolist()  # type: ignore[no-any-return]

    return predict
