"""A version that can answer: proven to be what was trained, with its own frozen code."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Output
from model_service.contract.reading import ContractError, parse_contract
from model_service.contract.rows import ReadRows, RowReader, RowValues
from model_service.registry.feature_code import FeatureCodeError, Features, features_of
from model_service.registry.golden import GOLDEN, GoldenPrediction, differences, read_golden
from model_service.registry.inputs import InputError, check_inputs
from model_service.registry.manifest import (
    DRILL,
    Manifest,
    VersionError,
    check_files,
    read_checked,
    read_manifest,
)
from model_service.registry.model_format import ServedModel, load_model

__all__ = ["LoadedVersion", "ModelError", "Predictions", "VersionError", "load_version"]

INLINE_SECONDS = 0.005
"""A call shorter than this may run inside the event loop without being noticed."""


class ModelError(Exception):
    """The model gave no usable answer for these rows; says what it gave."""


class Predictions(msgspec.Struct):
    """The answers for some rows: `values` per row, and for a class the probabilities of shape
    (rows, classes) in the order of the contract's classes."""

    values: list[Any]
    probabilities: NDArray[Any] | None = None


class LoadedVersion:
    """One version in memory. Share it between requests, not between threads."""

    def __init__(
        self,
        manifest: Manifest,
        reader: RowReader,
        features: Features,
        model: ServedModel,
        golden: Sequence[GoldenPrediction],
    ) -> None:
        self.model = manifest.model
        self.version = manifest.version
        self.manifest = manifest
        self.contract = reader.contract
        self.reader = reader
        self.golden = golden
        self._features = features
        self._served = model
        self._order = _class_order(manifest.classes, self.contract.output)
        self.runs_inline = False

    def as_drill(self) -> LoadedVersion:
        """Return the same version under the name by which a fire drill is logged and watched."""
        drill = copy.copy(self)
        drill.version = f"{self.version}{DRILL}"
        return drill

    def features(self, values: Sequence[RowValues]) -> Mapping[str, NDArray[Any]]:
        """Return what the frozen `features()` makes of accepted rows.

        Raises:
            ModelError: it raised, or returned something that is no set of columns.
        """
        try:
            inputs = self._features(self.reader.columns(values))
            check_inputs(inputs, len(values))
        except InputError as error:
            raise ModelError(str(error)) from None
        except Exception as error:
            raise ModelError(f"features() raised {type(error).__name__}: {error}") from error
        return inputs

    def predict(self, values: Sequence[RowValues]) -> Predictions:
        """Answer accepted rows, in their order.

        Raises:
            ModelError: the features or the model raised, or an answer is NaN, infinite, missing
                or of the wrong shape.
        """
        inputs = self.features(values)
        try:
            raw = self._served.predict(inputs)
        except Exception as error:
            raise ModelError(f"The model raised {type(error).__name__}: {error}") from error
        return self._answers(raw, len(values))

    def _answers(self, raw: NDArray[Any], rows: int) -> Predictions:
        output = self.contract.output
        shape = _expected_shape(output, rows)
        if raw.shape == (rows, 1) and shape == (rows,):
            raw = raw[:, 0]
        if raw.shape != shape:
            raise ModelError(f"The model answered with the shape {raw.shape} instead of {shape}.")
        if not np.isfinite(raw).all():
            raise ModelError("The model answered NaN or infinity.")
        if output.type != "class":
            return Predictions(raw.tolist())
        probabilities = raw[:, self._order] if self._order is not None else raw
        return Predictions(_chosen(probabilities, output), probabilities)

    def replay_golden(self) -> list[str]:
        """Answer the golden rows again and return every difference in words; none if all agree."""
        try:
            read = self.reader.read_rows([golden.row for golden in self.golden])
            if read.faults:
                first = min(read.faults)
                return [f"golden row {first} is refused: {read.faults[first][0].message}"]
            self._measure(read.values)
            actual = golden_of(self, read, [golden.row for golden in self.golden])
        except ModelError as error:
            return [str(error)]
        return [
            f"golden row {index}: {difference}"
            for index, (was, now) in enumerate(zip(self.golden, actual, strict=True))
            for difference in differences(was, now)
        ]

    def _measure(self, values: Sequence[RowValues]) -> None:
        self.predict(values[:1])
        begun = time.perf_counter()
        self.predict(values[:1])
        quick = time.perf_counter() - begun < INLINE_SECONDS
        self.runs_inline = quick and self.manifest.format == "onnx"


def golden_of(
    loaded: LoadedVersion, read: ReadRows, rows: Sequence[dict[str, Any]]
) -> list[GoldenPrediction]:
    """Return the answers to rows that were all accepted, as golden predictions."""
    predictions = loaded.predict(read.values)
    classes = loaded.contract.output.classes
    golden = []
    for index, row in enumerate(rows):
        shares = None
        if predictions.probabilities is not None:
            shares = dict(zip(classes, predictions.probabilities[index].tolist(), strict=True))
        warnings = tuple(
            (warning.feature, warning.problem, warning.action)
            for warning in read.warnings.get(index, ())
        )
        golden.append(GoldenPrediction(row, predictions.values[index], shares, warnings))
    return golden


def answers_by_row(
    loaded: LoadedVersion, rows: Sequence[dict[str, Any]]
) -> dict[int, GoldenPrediction]:
    """Return the answers to rows, by their position; rows that the contract refuses are left out.

    Raises:
        ModelError: the model has no answer for an accepted row.
    """
    read = loaded.reader.read_rows(rows)
    if not read.values:
        return {}
    accepted = list(read.positions)
    warnings = {
        index: read.warnings[position]
        for index, position in enumerate(accepted)
        if position in read.warnings
    }
    whole = ReadRows(len(accepted), range(len(accepted)), read.values, warnings, {})
    answers = golden_of(loaded, whole, [rows[position] for position in accepted])
    return dict(zip(accepted, answers, strict=True))


def load_version(folder: Path, rows_limit: int = 10_000) -> LoadedVersion:
    """Load a version, after proving that every file of it is what training wrote.

    Its golden predictions are not replayed yet: that is `LoadedVersion.replay_golden`.

    Raises:
        VersionError: the version is incomplete, was changed, or cannot be loaded here.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    # What runs is the bytes that were checked, not whatever the file holds a moment later.
    text = read_checked(folder, manifest, "contract.yaml").decode("utf-8", "replace")
    source = read_checked(folder, manifest, "features.py")
    lines = read_checked(folder, manifest, GOLDEN)
    content = read_checked(folder, manifest, manifest.model_file)
    try:
        contract = parse_contract(text, folder / "contract.yaml", model=manifest.model)
        name = f"model_service_features_{manifest.model}_{manifest.version}"
        features = features_of(source, name, str(folder / "features.py"))
        golden = read_golden(lines)
    except (ContractError, FeatureCodeError, ValueError) as error:
        raise VersionError("invalid_version", str(error)) from error
    if not golden:
        raise VersionError("invalid_version", f"{folder} has no golden predictions.")
    model = load_model(content, manifest)
    return LoadedVersion(manifest, RowReader(contract, rows_limit), features, model, golden)


def _class_order(classes: Sequence[str], output: Output) -> list[int] | None:
    """Return where each class of the contract stands in the estimator's answer, if elsewhere."""
    if output.type != "class" or tuple(classes) == output.classes:
        return None
    if set(classes) != set(output.classes):
        raise VersionError(
            "invalid_manifest",
            f"The model has the classes {list(classes)}, the contract {list(output.classes)}.",
        )
    return [list(classes).index(name) for name in output.classes]


def _expected_shape(output: Output, rows: int) -> tuple[int, ...]:
    if output.type == "class":
        return (rows, len(output.classes))
    return (rows, output.length or 0) if output.type == "vector" else (rows,)


def _chosen(probabilities: NDArray[Any], output: Output) -> list[str]:
    """Return for each row the first class that reaches its threshold, else the most probable of
    the classes without one (of all, if every class has one)."""
    classes = output.classes
    if not output.thresholds:
        return [classes[index] for index in probabilities.argmax(axis=1).tolist()]
    free = [i for i, name in enumerate(classes) if name not in output.thresholds]
    rest = free or list(range(len(classes)))
    best = [classes[rest[index]] for index in probabilities[:, rest].argmax(axis=1).tolist()]
    for name, threshold in reversed(output.thresholds.items()):
        reached = probabilities[:, classes.index(name)] >= threshold
        for index in np.flatnonzero(reached).tolist():
            best[index] = name
    return best
