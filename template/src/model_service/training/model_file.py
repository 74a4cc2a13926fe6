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
from model_service.registry.model_format import OnnxModel
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
    held_out: Mapping[str, NDArray[Any]],
    *,
    has_classes: bool,
    allow_pickle: bool,
    report: Callable[[str], None],
) -> ModelFile:
    """Return the estimator in the first of ONNX, skops and (if allowed) joblib that can carry it.

    `held_out` are the model's inputs for held-out rows, on which ONNX must agree with the original.

    Raises:
        TrainingError: only a pickle could carry it, and none is allowed.
    """
    try:
        content = onnx_of(estimator, layout, has_classes)
        parity = _parity(estimator, OnnxModel(content, layout), layout, held_out, has_classes)
    except ConversionError as error:
        report(f"not ONNX: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, another format is tried
        report(f"not ONNX: it converts and does not run: {error}")
    else:
        if parity.largest_difference <= 1:
            report(f"ONNX agrees with the original on {parity.rows} held-out rows")
            return ModelFile("onnx", content, parity)
        report("not ONNX: its answers differ from the original's on held-out rows")
    return _estimator_file(estimator, allow_pickle, report)


def _parity(
    estimator: Any,
    served: OnnxModel,
    layout: InputLayout,
    held_out: Mapping[str, NDArray[Any]],
    has_classes: bool,
) -> Parity:
    """Return the largest difference, in multiples of what is tolerated."""
    table = layout.frame(held_out)
    original = estimator.predict_proba(table) if has_classes else estimator.predict(table)
    expected = np.asarray(original, dtype=np.float64)
    actual = served.predict(held_out).astype(np.float64).reshape(expected.shape)
    allowed = TOLERANCE + TOLERANCE * np.abs(expected)
    difference = np.abs(actual - expected) / allowed
    largest = float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
    return Parity(len(table), largest, TOLERANCE)


def _estimator_file(estimator: Any, allow_pickle: bool, report: Callable[[str], None]) -> ModelFile:
    import skops.io

    try:
        content = skops.io.dumps(estimator)
        types = tuple(skops.io.get_untrusted_types(data=content))
    except Exception as error:  # noqa: BLE001 - whatever it is, skops is out
        types, content, problem = (), b"", f"skops cannot carry it: {error}"
    else:
        strangers = [name for name in types if name.split(".")[0] not in SAFE_LIBRARIES]
        if not strangers:
            report("skops carries the original, and loads it without running code")
            return ModelFile("skops", content, None, types)
        problem = f"it holds types of nobody's library: {', '.join(strangers[:5])}"
    if not allow_pickle:
        raise TrainingError(
            f"There is no safe format for this estimator: {problem}. Build it from scikit-learn's "
            "own steps and put the rest into features.py, or accept a pickle, which runs code "
            "when it is loaded: --allow-pickle."
        )
    import joblib

    report(f"a pickle, because {problem}")
    stream = io.BytesIO()
    joblib.dump(estimator, stream)
    return ModelFile("joblib", stream.getvalue(), None)
