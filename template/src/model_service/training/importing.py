"""`import`: a version from a file that was trained elsewhere, proven on a sample of rows."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from model_service.contract.inference import read_table
from model_service.contract.reading import read_contract
from model_service.registry.manifest import ImportedFile
from model_service.repository import Repository
from model_service.training.imported_graph import ImportedGraph
from model_service.training.model_file import SAFE_LIBRARIES
from model_service.training.packaging import Original, package_original
from model_service.training.recipe import TrainingError, gates_of
from model_service.training.version_writing import Report, TrainedVersion

PICKLES = (".joblib", ".pkl", ".pickle")
OF_BOOSTING = (".json", ".ubj", ".bst", ".txt", ".lgb", ".cbm")


def import_model(
    repository: Repository,
    name: str,
    file: Path,
    sample: Path,
    *,
    target: str | None = None,
    origin: str | None = None,
    allow_pickle: bool = False,
    report: Report,
) -> TrainedVersion:
    """Write the next version of a model from a file, and return it.

    `sample` is a table of rows as the model takes them. Golden predictions and the reference
    profile come from it, and with its column `target` metrics and the gates of the model's
    `train.py`. A model's folder that has no contract gets one drafted from the sample. The version
    must answer the sample as the file does.

    Raises:
        ContractError: the contract of the model has faults.
        TrainingError: the file cannot be read or served, or the sample does not fit it.
    """
    data = read_table(sample)
    path = repository.model_folder(name) / "contract.yaml"
    contract = read_contract(path) if path.is_file() else None
    output = contract.output.name if contract else target or "prediction"
    if target is not None and (target not in data.columns or target != output):
        raise TrainingError(
            f"--target {target}: the sample has {', '.join(map(str, data.columns))}; "
            f"the output of the model is called {output}."
        )
    truth = data[output].to_numpy() if output in data.columns else None
    rows = data.drop(columns=[output], errors="ignore")
    content = _content_of(file)
    estimator = _estimator_of(file, content, list(map(str, rows.columns)), allow_pickle)
    _name_classes(estimator, contract.output.classes if contract else (), truth, report)
    if truth is not None and len(getattr(estimator, "classes_", ())):
        truth = np.array([str(label) for label in truth], dtype=object)
    taken = getattr(estimator, "feature_names_in_", None)
    if contract is None and taken is not None and set(taken) <= set(rows.columns):
        rows = rows[list(taken)]
    gates = gates_of(repository.model_folder(name), contract) if contract else ()
    if truth is None:
        report(f"the sample has no column {output}: nothing is measured, no gate is evaluated")
    elif not gates:
        report(f"no gates: a train.py with GATES in models/{name}/ says how good it must be")
    digest = hashlib.sha256(content).hexdigest()
    return package_original(
        repository,
        Original(estimator, output, ImportedFile(origin or file.name, digest)),
        rows,
        truth,
        name=name,
        gates=gates,
        allow_pickle=allow_pickle,
        report=report,
    )


def _content_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TrainingError(f"{file} cannot be read: {error.strerror}.") from None


def _estimator_of(file: Path, content: bytes, columns: list[str], allow_pickle: bool) -> Any:
    suffix = file.suffix.lower()
    if suffix == ".onnx":
        return ImportedGraph(content, file.name, columns)
    if suffix == ".skops":
        return _from_skops(file, content)
    if suffix in PICKLES:
        return _from_pickle(file, content, allow_pickle)
    if suffix in OF_BOOSTING:
        raise TrainingError(
            f"{file.name}: files of XGBoost, LightGBM and CatBoost are not imported. Save the "
            "model as ONNX (onnxmltools converts all three, CatBoost saves it itself), or load it "
            "in a notebook and call package()."
        )
    known = ", ".join((".onnx", ".skops", *PICKLES))
    raise TrainingError(f"{file.name} is no file that can be imported. Known: {known}.")


def _from_skops(file: Path, content: bytes) -> Any:
    import skops.io

    try:
        types = skops.io.get_untrusted_types(data=content)
        strangers = [name for name in types if name.split(".")[0] not in SAFE_LIBRARIES]
        if not strangers:
            return skops.io.loads(content, trusted=types)
    except Exception as error:
        raise TrainingError(f"{file.name} cannot be read by skops: {error}") from error
    raise TrainingError(
        f"{file.name} holds types that no known library has: {', '.join(strangers[:5])}. "
        "Build the model from scikit-learn's own steps, or save it as ONNX."
    )


def _from_pickle(file: Path, content: bytes, allow_pickle: bool) -> Any:
    if not allow_pickle:
        raise TrainingError(
            f"{file.name} runs code when it is loaded, whoever wrote it. If you know who did, "
            "say --allow-pickle; the version is then served as ONNX or skops if it can be."
        )
    import joblib

    try:
        estimator = joblib.load(io.BytesIO(content))
    except Exception as error:
        raise TrainingError(
            f"{file.name} cannot be loaded: {type(error).__name__}: {error}. Was it written with "
            "the libraries of this environment?"
        ) from error
    if not hasattr(estimator, "predict"):
        raise TrainingError(
            f"{file.name} holds a {type(estimator).__name__}, which cannot predict."
        )
    return estimator


def _name_classes(estimator: Any, declared: tuple[str, ...], truth: Any, report: Report) -> None:
    """Name the classes of a graph that names none: as the contract orders them, or sorted."""
    if not isinstance(estimator, ImportedGraph) or len(estimator.classes_):
        return
    named = declared or (sorted({str(v) for v in truth}) if _is_text(truth) else ())
    if named:
        estimator.classes_ = np.array(list(named), dtype=object)
        report(f"the file names no classes; taken in this order: {', '.join(named)}")


def _is_text(truth: Any) -> bool:
    return truth is not None and truth.dtype.kind not in "biuf"
