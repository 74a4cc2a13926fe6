"""The formats that a version is served from. Only the one that a version has is imported."""

from __future__ import annotations

import io
import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_service.registry.inputs import InputLayout, Inputs
from model_service.registry.manifest import Manifest, VersionError
from model_service.repository import how_to_install


class ServedModel(Protocol):
    """A model that answers `features()` output: probabilities of shape (rows, classes) in the
    estimator's order, numbers of shape (rows,), or vectors of shape (rows, length)."""

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Return the model's answers for the rows of `inputs`."""


class OnnxModel:
    """An ONNX graph with the inputs `numbers` and `text`; its last output is the answer."""

    def __init__(self, content: bytes, layout: InputLayout) -> None:
        # Its builds report the names of models and more to their makers unless told not to.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One thread and no spinning: more of either lets processes on a busy machine collapse.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self._layout = layout
        self._output = [self._session.get_outputs()[-1].name]
        self._takes = frozenset(taken.name for taken in self._session.get_inputs())

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Return what the graph computes."""
        numbers, text = self._layout.blocks(inputs)
        feed: dict[str, NDArray[Any]] = {}
        if "numbers" in self._takes:
            feed["numbers"] = numbers
        if "text" in self._takes:
            feed["text"] = text
        answer: NDArray[Any] = self._session.run(self._output, feed)[0]
        return answer


class EstimatorModel:
    """A fitted scikit-learn estimator, which takes a table."""

    def __init__(self, estimator: Any, layout: InputLayout, has_classes: bool) -> None:
        self._estimator = estimator
        self._layout = layout
        self._ask = estimator.predict_proba if has_classes else estimator.predict

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Return what the estimator predicts."""
        return np.asarray(self._ask(self._layout.frame(inputs)))


def load_model(content: bytes, manifest: Manifest) -> ServedModel:
    """Return the model in the bytes of a version's model file.

    Raises:
        VersionError: the bytes cannot be loaded, or a library for them is not installed.
    """
    try:
        if manifest.format == "onnx":
            return OnnxModel(content, manifest.inputs)
        estimator = _estimator(content, manifest)
    except ImportError as error:
        raise VersionError(
            "missing_library",
            f"A {manifest.format} version needs {error.name}: {how_to_install('train')}.",
        ) from error
    except VersionError:
        raise
    except Exception as error:
        raise VersionError(
            "unreadable_model", f"{manifest.model_file} cannot be loaded: {error}"
        ) from error
    return EstimatorModel(estimator, manifest.inputs, bool(manifest.classes))


def _estimator(content: bytes, manifest: Manifest) -> Any:
    if manifest.format == "skops":
        import skops.io

        return skops.io.loads(content, trusted=list(manifest.trusted_types))
    if not manifest.pickle:
        raise VersionError(
            "pickle_refused", "A joblib file runs code when loaded, and the manifest allows none."
        )
    import joblib

    return joblib.load(io.BytesIO(content))
