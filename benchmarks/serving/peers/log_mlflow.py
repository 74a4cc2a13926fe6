"""Save the pipeline as an MLflow model: `python log_mlflow.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import mlflow.sklearn

folder = Path(sys.argv[1])
mlflow.sklearn.save_model(
    joblib.load(folder / "model.joblib"),
    folder / "mlflow",
    serialization_format="cloudpickle",
    pyfunc_predict_fn="predict_proba",
)
