"""From a fitted estimator to a version: its file, its metrics, its gates, and everything beside."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.contract.rows import ReadRows, RowReader
from model_service.contract.table import rows_of
from model_service.drift.profiling import Times
from model_service.files import write_atomically
from model_service.model_settings import ModelSettingsError, read_model_settings
from model_service.registry import traffic
from model_service.registry.feature_code import FeatureCodeError, Features, features_of
from model_service.registry.golden import GoldenPrediction, write_golden
from model_service.registry.inputs import InputError, InputLayout, check_inputs
from model_service.registry.loaded_version import LoadedVersion, Predictions, golden_of
from model_service.registry.manifest import GateOutcome, ImportedFile, Manifest
from model_service.registry.model_format import load_model
from model_service.registry.registry import Registry
from model_service.repository import Repository
from model_service.settings import read_settings
from model_service.training.card import card_of
from model_service.training.evaluation import baseline_of, metrics_of
from model_service.training.gate import Gate
from model_service.training.golden_rows import golden_rows
from model_service.training.injected_faults import HeldOut
from model_service.training.model_file import ModelFile, answers_of
from model_service.training.provenance import fingerprint, git_state, library_versions
from model_service.training.recipe import TrainingError
from model_service.training.reference import Watching, times_of, write_reference

if TYPE_CHECKING:
    import pandas as pd

Report = Callable[[str], None]


class TrainedVersion(msgspec.Struct, frozen=True):
    """A version that was written."""

    model: str
    version: str
    folder: Path
    metrics: dict[str, float]
    format: str


class Rows(msgspec.Struct, frozen=True):
    """Rows of the data on their way to the model: raw, read by the contract, and as inputs."""

    raw: list[dict[str, Any]]
    read: ReadRows
    columns: Mapping[str, NDArray[Any]]
    inputs: Mapping[str, NDArray[Any]]


class Frozen(msgspec.Struct, frozen=True):
    """What a version keeps of a model's folder: the contract, the features, the card's words."""

    contract: Contract
    contract_source: bytes
    features: Features
    feature_source: bytes
    card_words: str
    reader: RowReader


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted estimator as it is served, and the rows that it is judged by; `reference` are the
    rows that drift and the baseline are measured against. Where the truth of an imported model's
    rows is not known, `truth` is empty: nothing is measured, and no gate is held against it."""

    frozen: Frozen
    layout: InputLayout
    classes: tuple[str, ...]
    file: ModelFile
    held_out: Rows
    truth: list[Any]
    reference: Rows
    reference_truth: list[Any]
    golden: list[dict[str, Any]]
    gates: Sequence[Gate]
    rows: dict[str, int]
    seed: int
    by: str
    times: tuple[Times | None, Times | None] | None = None
    imported: ImportedFile | None = None


def frozen_from(folder: Path, contract: Contract) -> Frozen:
    """Read what a version keeps of a model's folder; what runs is what gets frozen.

    Raises:
        TrainingError: there is no `features.py`, or it cannot be run.
    """
    path = folder / "features.py"
    words = folder / "card.md"
    try:
        source = path.read_bytes()
        features = features_of(source, f"models_{contract.name}_features", str(path))
    except FileNotFoundError:
        raise TrainingError(
            f"{path} is not there. `new` shows what a model's folder has."
        ) from None
    except FeatureCodeError as error:
        raise TrainingError(str(error)) from error
    return Frozen(
        contract,
        (folder / "contract.yaml").read_bytes(),
        features,
        source,
        words.read_text(encoding="utf-8", errors="replace") if words.is_file() else "",
        RowReader(contract),
    )


def rows_for(frozen: Frozen, raw: list[dict[str, Any]]) -> Rows:
    """Take rows that the contract accepts the way that serving takes them.

    Raises:
        TrainingError: `features()` raised, or returned something that is no set of columns.
    """
    read = frozen.reader.read_rows(raw)
    columns = frozen.reader.columns(read.values)
    try:
        inputs = frozen.features(columns)
        check_inputs(inputs, len(read.values))
    except InputError as error:
        raise TrainingError(str(error)) from error
    except (Exception, SystemExit) as error:
        raise TrainingError(f"features() raised {type(error).__name__}: {error}") from error
    return Rows(raw, read, columns, inputs)


def rows_of_table(frozen: Frozen, data: pd.DataFrame) -> Rows:
    """Take the rows of a table the way that serving takes them.

    Raises:
        TrainingError: there are none, or `features()` cannot take them.
    """
    raw = rows_of(data, frozen.contract)
    if not raw:
        raise TrainingError("There are no rows to train on or to hold out: see load() and split().")
    return rows_for(frozen, raw)


def truth_of(contract: Contract, target: Sequence[Any]) -> list[Any]:
    """Return the target as the model answers it: the labels of a class as text."""
    return [str(label) for label in target] if contract.output.type == "class" else list(target)


def classes_of(estimator: Any, contract: Contract) -> tuple[str, ...]:
    """Return the classes of a fitted estimator in its own order; none unless it answers a class.

    Raises:
        TrainingError: it gives no probabilities, or its classes are not those of the contract.
    """
    if contract.output.type != "class":
        return ()
    if not hasattr(estimator, "predict_proba"):
        raise TrainingError(
            "A class output needs probabilities, and this estimator has no predict_proba. "
            "Wrap it in sklearn.calibration.CalibratedClassifierCV."
        )
    classes = tuple(str(label) for label in estimator.classes_)
    if set(classes) != set(contract.output.classes):
        raise TrainingError(
            f"The estimator learned the classes {', '.join(classes)}; the contract has "
            f"{', '.join(contract.output.classes)}. Correct output.classes, or the split "
            "if it left one out of training."
        )
    return classes


def dirty_rows(frozen: Frozen, held_out: Rows) -> tuple[list[dict[str, Any]], Rows]:
    """Return the rows of golden predictions, and held-out rows together with the dirty ones."""
    golden = golden_rows(frozen.contract, frozen.reader, held_out.raw)
    known = {id(row) for row in held_out.raw}
    dirty = [row for row in golden if id(row) not in known]
    return golden, rows_for(frozen, [*held_out.raw, *dirty])


def original_answers(
    frozen: Frozen, estimator: Any, layout: InputLayout, rows: Rows
) -> NDArray[Any]:
    """Return what the fitted estimator itself answers for rows that the contract accepts.

    Raises:
        TrainingError: it cannot answer one of them; says which, and how to mend it.
    """
    has_classes = frozen.contract.output.type == "class"
    try:
        answers = answers_of(estimator, layout.frame(rows.inputs), has_classes)
        if np.isfinite(answers).all():
            return answers
        problem = "an answer is NaN or infinite"
    except Exception as error:  # noqa: BLE001 - looked into below, row by row
        problem = f"{type(error).__name__}: {error}"
    for position, row in enumerate(rows.raw):
        one = rows_for(frozen, [row])
        try:
            given = answers_of(estimator, layout.frame(one.inputs), has_classes)
            good = bool(np.isfinite(given).all())
        except Exception as error:  # noqa: BLE001 - it is told
            good, problem = False, f"{type(error).__name__}: {error}"
        if not good:
            warnings = "; ".join(w.message for w in rows.read.warnings.get(position, ()))
            raise TrainingError(
                f"The contract accepts a row that the model cannot answer: {row}"
                f"{f' ({warnings})' if warnings else ''}: {problem.splitlines()[0]}. Let the "
                "policy impute, map or reject it, or let features.py or the pipeline take it."
            )
    raise TrainingError(f"The estimator cannot answer the held-out rows: {problem}")


def write_version(repository: Repository, fitted: Fitted, report: Report) -> TrainedVersion:
    """Write the next version of a model, if it meets its gates; the first one becomes champion.

    Raises:
        TrainingError: a gate is not met, or the same row is not always answered alike.
    """
    contract = fitted.frozen.contract
    settings = read_settings(repository, os.environ)
    registry = Registry(repository.root / settings.stores.registry)
    watching = Watching(
        _declared_rows(repository, contract.name), settings.monitoring.false_alarms_per_month
    )
    draft = _manifest(repository, fitted)
    served = _served(fitted, draft, [])
    metrics, baseline = _measured(fitted, served)
    gates = _held_gates(fitted.gates, metrics, baseline) if fitted.truth else []
    if gates:
        words = ", ".join(f"{g.metric} {g.measured:.3g} ({g.demand})" for g in gates)
        report(f"gates met: {words}")
    manifest = msgspec.structs.replace(
        draft, metrics=metrics, baseline=baseline, gates=tuple(gates)
    )
    golden = _golden(fitted, served, draft)
    with registry.incoming(contract.name) as incoming:
        _fill(incoming, fitted, served, manifest, golden, watching)
        published = registry.publish(incoming, manifest)
    traffic.promote_first(repository.traffic, contract.name, published.version, by=fitted.by)
    folder = registry.folder(contract.name, published.version)
    return TrainedVersion(contract.name, published.version, folder, metrics, published.format)


def _declared_rows(repository: Repository, model: str) -> int:
    try:
        return read_model_settings(repository, model).traffic.rows_per_day
    except ModelSettingsError as error:
        raise TrainingError(str(error)) from None


def _measured(fitted: Fitted, served: LoadedVersion) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of the version and of the baseline; none where no truth is known."""
    if not fitted.truth:
        return {}, {}
    contract = fitted.frozen.contract
    metrics = metrics_of(contract, served.predict(fitted.held_out.read.values), fitted.truth)
    return metrics, baseline_of(contract, fitted.reference_truth, fitted.truth)


def _manifest(repository: Repository, fitted: Fitted) -> Manifest:
    parts = [(fitted.held_out.raw, fitted.truth)]
    if fitted.reference is not fitted.held_out:
        parts.insert(0, (fitted.reference.raw, fitted.reference_truth))
    data = (
        pair for raw, truth in parts for pair in zip(raw, truth or [None] * len(raw), strict=True)
    )
    return Manifest(
        model=fitted.frozen.contract.name,
        version="",
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        contract_version=fitted.frozen.contract.contract_version,
        format=fitted.file.format,
        model_file=fitted.file.name,
        inputs=fitted.layout,
        classes=fitted.classes,
        metrics={},
        baseline={},
        gates=(),
        parity=fitted.file.parity,
        rows=fitted.rows,
        data_sha256=fingerprint(data),
        seed=fitted.seed,
        git=git_state(repository.root),
        libraries=library_versions(),
        pickle=fitted.file.format == "joblib",
        trusted_types=fitted.file.trusted_types,
        imported=fitted.imported,
    )


def _served(
    fitted: Fitted, manifest: Manifest, golden: Sequence[GoldenPrediction]
) -> LoadedVersion:
    """Return the version as it will be served: everything measured from here on is its answers."""
    model = load_model(fitted.file.content, manifest)
    return LoadedVersion(manifest, fitted.frozen.reader, fitted.frozen.features, model, golden)


def _held_gates(
    gates: Sequence[Gate], metrics: Mapping[str, float], baseline: Mapping[str, float]
) -> list[GateOutcome]:
    for gate in gates:
        if gate.metric not in metrics or gate.metric not in baseline:
            raise TrainingError(
                f"There is no {gate.metric} of these held-out rows, which a gate asks for. "
                f"Measured: {', '.join(metrics)}. Hold more rows out, or choose another gate."
            )
    outcomes = [gate.outcome(metrics, baseline) for gate in gates]
    missed = [outcome for outcome in outcomes if not outcome.met]
    if missed:
        raise TrainingError(
            "No version was written, because it is not good enough:\n"
            + "\n".join(
                f"{gate.metric} is {gate.measured:.4g}, demanded is {gate.demand} "
                f"(the baseline has {baseline[gate.metric]:.4g})"
                for gate in missed
            )
        )
    return outcomes


def _golden(fitted: Fitted, served: LoadedVersion, draft: Manifest) -> list[GoldenPrediction]:
    """Return the golden predictions, once they replay, together and each row alone."""
    rows = fitted.golden
    golden = golden_of(served, served.reader.read_rows(rows), rows)
    again = _served(fitted, draft, golden).replay_golden()
    for place in range(0, len(golden), max(1, len(golden) // 10)):
        alone = _served(fitted, draft, golden[place : place + 1])
        again += alone.replay_golden()
    if again:
        raise TrainingError(
            "The model does not answer the same row always alike, alone and among others: "
            f"{again[0]}. Each row must depend on itself alone: look for means, sorting or "
            "randomness in features.py and in the pipeline."
        )
    return golden


def _fill(
    incoming: Path,
    fitted: Fitted,
    served: LoadedVersion,
    manifest: Manifest,
    golden: Sequence[GoldenPrediction],
    watching: Watching,
) -> None:
    frozen, reference = fitted.frozen, fitted.reference
    answers = served.predict(fitted.held_out.read.values)
    write_atomically(incoming / "contract.yaml", frozen.contract_source)
    write_atomically(incoming / "features.py", frozen.feature_source)
    write_atomically(incoming / fitted.file.name, fitted.file.content)
    write_golden(incoming, golden)
    seen, times = _in_order(fitted, answers)
    spots = write_reference(
        incoming, frozen.contract, reference.read, seen, fitted.truth, times, watching
    )
    card = card_of(frozen.contract, manifest, frozen.card_words, len(golden), spots)
    write_atomically(incoming / "card.md", card.encode())


def _in_order(fitted: Fitted, answers: Predictions) -> tuple[HeldOut, Times | None]:
    """Return the held-out rows as they happened, and when the reference rows did."""
    held_out = fitted.held_out
    times = fitted.times or tuple(
        times_of(fitted.frozen.contract, rows.columns) for rows in (fitted.reference, held_out)
    )
    seen = HeldOut(held_out.raw, answers, None if times[1] is None else times[1].seconds)
    return seen, times[0]
