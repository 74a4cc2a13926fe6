"""Models at an MLflow server: taken from there as a file, and versions logged to it.

The server is the one of `MLFLOW_TRACKING_URI`, as everywhere with MLflow.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml

from model_service.files import sha256_of
from model_service.registry.manifest import MANIFEST, check_files, read_manifest
from model_service.repository import how_to_install
from model_service.training.recipe import TrainingError

MODEL_FILE = "MLmodel"
DIGEST_TAG = "model_service.manifest_sha256"
VERSION_TAG = "model_service.version"


def fetch_model(uri: str, folder: Path) -> Path:
    """Copy what `models:/name@alias` (or `/version`) holds into `folder`; return its model file.

    Raises:
        TrainingError: MLflow is not installed or reached, or the model is of another flavor.
    """
    if not uri.startswith(("models:/", "runs:/")):
        raise TrainingError(f"{uri} is no model of MLflow: models:/name@alias or models:/name/3.")
    mlflow = _mlflow()
    try:
        copied = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except Exception as error:
        raise TrainingError(f"{uri} cannot be fetched from MLflow: {error}") from error
    described = copied / MODEL_FILE
    if not described.is_file():
        raise TrainingError(f"{uri} has no {MODEL_FILE}: no model was logged there.")
    flavors: dict[str, Any] = yaml.safe_load(described.read_text(encoding="utf-8"))["flavors"]
    if "onnx" in flavors:
        return copied / str(flavors["onnx"]["data"])
    if "sklearn" in flavors:
        file = copied / str(flavors["sklearn"]["pickled_model"])
        if flavors["sklearn"].get("serialization_format") == "skops":
            return file.rename(file.with_suffix(".skops"))
        return file
    raise TrainingError(
        f"{uri} has the flavors {', '.join(sorted(flavors))}; onnx and sklearn can be imported. "
        "Log it with mlflow.onnx.log_model, or call package() in a notebook."
    )


def log_version(folder: Path) -> tuple[str, bool]:
    """Log a version as a registered model; return its address, and whether it was not there.

    Its metrics and all of its files go along. A version whose manifest is registered already is
    not logged again.

    Raises:
        VersionError: the version is not what was trained.
        TrainingError: MLflow is not installed or reached, or the version is not served from ONNX.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    if manifest.format != "onnx":
        raise TrainingError(
            f"{manifest.model} {manifest.version} is served from {manifest.format}: only ONNX is "
            "logged to MLflow, where others expect a model that they can load."
        )
    mlflow, digest = _mlflow(), sha256_of(folder / MANIFEST)
    try:
        client = mlflow.MlflowClient()
        for known in client.search_model_versions(f"name='{manifest.model}'"):
            if known.tags.get(DIGEST_TAG) == digest:
                return f"models:/{manifest.model}/{known.version}", False
        import onnx

        onnx_flavor = importlib.import_module("mlflow.onnx")
        with mlflow.start_run(run_name=f"{manifest.model} {manifest.version}"):
            mlflow.log_metrics(manifest.metrics)
            mlflow.log_params({"format": manifest.format, "seed": manifest.seed})
            mlflow.log_artifacts(str(folder), artifact_path="version")
            logged = onnx_flavor.log_model(
                onnx.load(folder / manifest.model_file),
                name=manifest.model,
                registered_model_name=manifest.model,
            )
        number = logged.registered_model_version
        for tag, value in ((DIGEST_TAG, digest), (VERSION_TAG, manifest.version)):
            client.set_model_version_tag(manifest.model, number, tag, value)
    except ImportError:
        raise
    except Exception as error:
        raise TrainingError(f"MLflow did not take the version: {error}") from error
    return f"models:/{manifest.model}/{number}", True


def _mlflow() -> Any:
    try:
        import mlflow
    except ImportError:
        raise TrainingError(
            f"MLflow is not installed: {how_to_install('mlflow')}, and name the server in "
            "MLFLOW_TRACKING_URI."
        ) from None
    return mlflow
