"""The file that an estimator is served from: ONNX if that agrees, else the safest that does."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.registry.inputs import InputLayout
from model_service.registry.manifest import Format, Parity
from model_service.registry.model_format import EstimatorModel, OnnxModel, ServedModel
from model_service.training.imported_graph import ImportedGraph
from model_service.training.onnx_conversion import ConversionError, onnx_of
from model_service.training.recipe import TrainingError

TOLERANCE = 1e-4
"""Relative and absolute: float32 has seven digits, and sums of many terms lose two of them."""
SAFE_LIBRARIES = ("sklearn", "numpy", "scipy", "builtins")


class ModelFile(msgspec.Struct, frozen=True):
    """A model's bytes, their format, and how far they are from the estimator."""

    format: Format
    content: bytes
    parity: Parity | None
    trusted_types: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name in the version."""
        return f"model.{self.format}"


def model_file_of(
    estimator: Any,
    layout: InputLayout,
    inputs: Mapping[str, NDArray[Any]],
    expected: NDArray[Any],
    *,
    has_classes: bool,
    allow_pickle: bool,
    report: Callable[[str], None],
) -> ModelFile:
    """Return the estimator in the first of ONNX, skops and (if allowed) joblib that can carry it.

    `inputs` are the model's inputs for held-out and dirty rows, `expected` the original's answers.

    Raises:
        TrainingError: only a pickle could carry it and none is allowed, or none agrees.
    """
    problem = "its answers differ from the original's on held-out or dirty rows"
    try:
        content = _graph_of(estimator, layout, has_classes)
        parity = _parity(OnnxModel(content, layout), inputs, expected, has_classes)
    except ConversionError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, another format is tried
        problem = f"it converts and does not run: {error}"
    else:
        if parity.largest_difference <= 1:
            report(f"ONNX agrees with the original on {parity.rows} rows, dirty ones among them")
            return ModelFile("onnx", content, parity)
    if isinstance(estimator, ImportedGraph):
        raise TrainingError(f"The graph cannot be served: {problem}.")
    report(f"not ONNX: {problem}")
    same = _parity(EstimatorModel(estimator, layout, has_classes), inputs, expected, has_classes)
    if same.largest_difference > 1:
        raise TrainingError(
            "The estimator answers otherwise for the rows as the contract reads them than for "
            "the rows that it was given: let the policies and features.py do what was done to "
            "the data before it was fitted."
        )
    return _estimator_file(estimator, same, allow_pickle, report)


def _graph_of(estimator: Any, layout: InputLayout, has_classes: bool) -> bytes:
    if isinstance(estimator, ImportedGraph):
        return estimator.served(layout)
    return onnx_of(estimator, layout, has_classes)


def answers_of(estimator: Any, table: Any, has_classes: bool) -> NDArray[Any]:
    """Return what an estimator answers for a table: probabilities of classes, or numbers."""
    answers = estimator.predict_proba(table) if has_classes else estimator.predict(table)
    return np.asarray(answers, dtype=np.float64)


def _parity(
    served: ServedModel,
    inputs: Mapping[str, NDArray[Any]],
    expected: NDArray[Any],
    has_classes: bool,
) -> Parity:
    """Return the largest difference, in multiples of what is tolerated."""
    actual = np.asarray(served.predict(inputs), dtype=np.float64).reshape(expected.shape)
    # Numbers have a unit: what is much is told by how far the answers spread.
    spread = 1.0 if has_classes else float(expected.std()) or 1.0
    difference = np.abs(actual - expected) / (TOLERANCE * (spread + np.abs(expected)))
    largest = float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
    return Parity(len(expected), largest, TOLERANCE)


def _estimator_file(
    estimator: Any, parity: Parity, allow_pickle: bool, report: Callable[[str], None]
) -> ModelFile:
    import skops.io

    try:
        content = skops.io.dumps(estimator)
        types = tuple(skops.io.get_untrusted_types(data=content))
    except Exception as error:  # noqa: BLE001 - whatever it is, skops is out
        problem = f"skops cannot carry it: {error}"
    else:
        strangers = [name for name in types if name.split(".")[0] not in SAFE_LIBRARIES]
        if not strangers:
            report("skops carries the original, and loads it without running code")
            return ModelFile("skops", content, parity, types)
        problem = f"it holds types that no known library has: {', '.join(strangers[:5])}"
    if not allow_pickle:
        raise TrainingError(
            f"There is no safe format for this estimator: {problem}. Build it from scikit-learn's "
            "own steps and put the rest into features.py, or accept a pickle, which runs code "
            "when it is loaded: --allow-pickle."
        )
    report(f"a pickle, because {problem}")
    return ModelFile("joblib", _pickled(estimator), parity)


def _pickled(estimator: Any) -> bytes:
    import joblib

    stream = io.BytesIO()
    try:
        joblib.dump(estimator, stream)
    except Exception as error:
        raise TrainingError(
            f"Not even a pickle can carry this estimator: {error}. A class or function of train.py "
            "is not there where the version is served: put it into an installed package."
        ) from error
    return stream.getvalue()
