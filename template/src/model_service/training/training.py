"""`train`: check the data, fit, prove, hold against the gates, and write a version."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.contract.reading import read_contract
from model_service.contract.rows import ReadRows, RowReader
from model_service.contract.table import check_table, rows_of
from model_service.files import write_atomically
from model_service.registry import traffic
from model_service.registry.feature_code import Features
from model_service.registry.golden import write_golden
from model_service.registry.inputs import InputError, InputLayout, check_inputs, layout_of
from model_service.registry.loaded_version import LoadedVersion, golden_of
from model_service.registry.manifest import GateOutcome, Manifest
from model_service.registry.model_format import load_model
from model_service.registry.profile import profile_of, write_profile
from model_service.registry.registry import Registry
from model_service.repository import Repository
from model_service.settings import read_settings
from model_service.training.card import card_of
from model_service.training.evaluation import baseline_of, metrics_of
from model_service.training.golden_rows import golden_rows
from model_service.training.model_file import ModelFile, model_file_of
from model_service.training.provenance import fingerprint, git_state, library_versions
from model_service.training.recipe import Recipe, TrainingError, read_recipe

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
    truth: list[Any]


class Trained(msgspec.Struct, frozen=True):
    """Everything that a version is written from."""

    contract: Contract
    contract_source: bytes
    recipe: Recipe
    training: Rows
    held_out: Rows
    layout: InputLayout
    classes: tuple[str, ...]
    file: ModelFile
    seed: int


def train(
    repository: Repository,
    name: str,
    *,
    seed: int = 0,
    allow_pickle: bool = False,
    report: Report = lambda _: None,
) -> TrainedVersion:
    """Train a model and write its next version; `report` is told each step.

    Raises:
        ContractError: the contract has faults.
        TrainingError: the data, the estimator or its quality is not as it must be.
    """
    folder = repository.model_folder(name)
    contract = read_contract(folder / "contract.yaml")
    contract_source = (folder / "contract.yaml").read_bytes()
    recipe = read_recipe(folder, contract)
    data = _load(recipe, folder)
    report(f"{len(data)} rows loaded")
    reader = RowReader(contract)
    problems = check_table(data, contract, reader).problems
    if problems:
        raise TrainingError("The data does not fit the contract:\n" + "\n".join(problems))
    report("every row fits the contract")
    training, held_out = (
        _rows(part, contract, reader, recipe.features) for part in recipe.split(data, seed)
    )
    layout = layout_of(training.inputs)
    estimator = _fit(recipe, layout, training, seed, folder)
    report(f"fitted on {len(training.raw)} rows, {len(held_out.raw)} held out")
    file = model_file_of(
        estimator,
        layout,
        held_out.inputs,
        has_classes=contract.output.type == "class",
        allow_pickle=allow_pickle,
        report=report,
    )
    classes = _classes(estimator, contract)
    trained = Trained(
        contract, contract_source, recipe, training, held_out, layout, classes, file, seed
    )
    return _write(repository, trained, report)


def _load(recipe: Recipe, folder: Path) -> pd.DataFrame:
    try:
        data = recipe.load()
    except Exception as error:
        raise TrainingError(
            f"load() in {folder / 'train.py'} raised {type(error).__name__}: {error}"
        ) from error
    if not hasattr(data, "columns"):
        raise TrainingError(f"load() in {folder / 'train.py'} must return a pandas DataFrame.")
    return data


def _rows(data: pd.DataFrame, contract: Contract, reader: RowReader, features: Features) -> Rows:
    raw = rows_of(data, contract)
    if not raw:
        raise TrainingError("split() left one part without rows.")
    read = reader.read_rows(raw)
    columns = reader.columns(read.values)
    try:
        inputs = features(columns)
        check_inputs(inputs, len(read.values))
    except InputError as error:
        raise TrainingError(str(error)) from error
    except Exception as error:
        raise TrainingError(f"features() raised {type(error).__name__}: {error}") from error
    truth = data[contract.output.name].tolist()
    if contract.output.type == "class":
        truth = [str(label) for label in truth]
    return Rows(raw, read, columns, inputs, truth)


def _fit(recipe: Recipe, layout: InputLayout, training: Rows, seed: int, folder: Path) -> Any:
    try:
        return recipe.build(seed).fit(layout.frame(training.inputs), training.truth)
    except Exception as error:
        raise TrainingError(
            f"The estimator of build() in {folder / 'train.py'} cannot be fitted: "
            f"{type(error).__name__}: {error}"
        ) from error


def _classes(estimator: Any, contract: Contract) -> tuple[str, ...]:
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
            f"{', '.join(contract.output.classes)}. Did the split leave one out of training?"
        )
    return classes


def _write(repository: Repository, trained: Trained, report: Report) -> TrainedVersion:
    contract = trained.contract
    settings = read_settings(repository, os.environ)
    registry = Registry(repository.root / settings.stores.registry)
    served = _served(trained, _manifest(repository, trained))
    metrics = metrics_of(
        contract, served.predict(trained.held_out.read.values), trained.held_out.truth
    )
    baseline = baseline_of(contract, trained.training.truth, trained.held_out.truth)
    gates = [gate.outcome(metrics, baseline) for gate in trained.recipe.gates]
    _hold_gates(gates, baseline)
    report("gates met: " + ", ".join(f"{g.metric} {g.measured:.3g} ({g.demand})" for g in gates))
    manifest = msgspec.structs.replace(
        served.manifest, metrics=metrics, baseline=baseline, gates=tuple(gates)
    )
    with registry.incoming(contract.name) as incoming:
        _fill(incoming, repository, trained, served, manifest)
        published = registry.publish(incoming, manifest)
    traffic.promote_first(repository.traffic, contract.name, published.version, by="train")
    folder = registry.folder(contract.name, published.version)
    return TrainedVersion(contract.name, published.version, folder, metrics, published.format)


def _manifest(repository: Repository, trained: Trained) -> Manifest:
    every = [*trained.training.raw, *trained.held_out.raw]
    truth = [*trained.training.truth, *trained.held_out.truth]
    return Manifest(
        model=trained.contract.name,
        version="",
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        contract_version=trained.contract.contract_version,
        format=trained.file.format,
        model_file=trained.file.name,
        inputs=trained.layout,
        classes=trained.classes,
        metrics={},
        baseline={},
        gates=(),
        parity=trained.file.parity,
        rows={"training": len(trained.training.raw), "held_out": len(trained.held_out.raw)},
        data_sha256=fingerprint(zip(every, truth, strict=True)),
        seed=trained.seed,
        git=git_state(repository.root),
        libraries=library_versions(),
        pickle=trained.file.format == "joblib",
        trusted_types=trained.file.trusted_types,
    )


def _served(trained: Trained, manifest: Manifest) -> LoadedVersion:
    """Return the version as it will be served: everything measured from here on is its answers."""
    model = load_model(trained.file.content, manifest)
    return LoadedVersion(manifest, RowReader(trained.contract), trained.recipe.features, model, [])


def _hold_gates(gates: list[GateOutcome], baseline: Mapping[str, float]) -> None:
    missed = [gate for gate in gates if not gate.met]
    if missed:
        raise TrainingError(
            "No version was written, because it is not good enough:\n"
            + "\n".join(
                f"{gate.metric} is {gate.measured:.4g}, demanded is {gate.demand} "
                f"(the baseline has {baseline[gate.metric]:.4g})"
                for gate in missed
            )
        )


def _fill(
    incoming: Path,
    repository: Repository,
    trained: Trained,
    served: LoadedVersion,
    manifest: Manifest,
) -> None:
    folder = repository.model_folder(trained.contract.name)
    rows = golden_rows(trained.contract, served.reader, trained.held_out.raw)
    golden = golden_of(served, served.reader.read_rows(rows), rows)
    answers = served.predict(trained.training.read.values).values
    write_atomically(incoming / "contract.yaml", trained.contract_source)
    write_atomically(incoming / "features.py", trained.recipe.feature_source)
    write_atomically(incoming / trained.file.name, trained.file.content)
    write_golden(incoming, golden)
    profile = profile_of(trained.contract, trained.training.read, trained.training.columns, answers)
    write_profile(incoming, profile)
    words = folder / "card.md"
    text = words.read_text(encoding="utf-8") if words.is_file() else ""
    card = card_of(trained.contract, manifest, text, len(golden))
    write_atomically(incoming / "card.md", card.encode())
