"""`train`: check the data, fit, and write a version of what came out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model_service.contract.reading import read_contract
from model_service.contract.table import check_table
from model_service.registry.inputs import InputLayout, layout_of
from model_service.repository import Repository
from model_service.training.model_file import model_file_of
from model_service.training.recipe import Recipe, TrainingError, read_recipe
from model_service.training.reference import rows_since, times_of
from model_service.training.version_writing import (
    Fitted,
    Report,
    Rows,
    TrainedVersion,
    classes_of,
    dirty_rows,
    frozen_from,
    original_answers,
    rows_of_table,
    truth_of,
    write_version,
)

if TYPE_CHECKING:
    import datetime as dt

    import pandas as pd


def train(
    repository: Repository,
    name: str,
    *,
    seed: int = 0,
    allow_pickle: bool = False,
    since: dt.date | None = None,
    report: Report = lambda _: None,
) -> TrainedVersion:
    """Train a model and write its next version; `report` is told each step.

    With `since`, only rows of that day and later are used.

    Raises:
        ContractError: the contract has faults.
        TrainingError: the data, the estimator or its quality is not as it must be.
    """
    folder = repository.model_folder(name)
    contract = read_contract(folder / "contract.yaml")
    recipe = read_recipe(folder, contract)
    frozen = frozen_from(folder, contract)
    random.seed(seed)
    np.random.seed(seed)
    data = _load(recipe, folder)
    report(f"{len(data)} rows loaded")
    if since is not None:
        data = rows_since(data, contract, recipe.time, since)
        report(f"{len(data)} of them are from {since} or later")
    problems = check_table(data, contract, frozen.reader).problems
    if problems:
        raise TrainingError("The data does not fit the contract:\n" + "\n".join(problems))
    report("every row fits the contract")
    parts = _split(recipe, data, seed, folder)
    training, held_out = (rows_of_table(frozen, part) for part in parts)
    truths = [truth_of(contract, part[contract.output.name].tolist()) for part in parts]
    layout = layout_of(training.inputs)
    estimator = _fit(recipe, layout, training, truths[0], seed, folder)
    report(f"fitted on {len(training.raw)} rows, {len(held_out.raw)} held out")
    classes = classes_of(estimator, contract)
    golden, proving = dirty_rows(frozen, held_out)
    file = model_file_of(
        estimator,
        layout,
        proving.inputs,
        original_answers(frozen, estimator, layout, proving),
        has_classes=bool(classes),
        allow_pickle=allow_pickle,
        report=report,
    )
    fitted = Fitted(
        frozen=frozen,
        layout=layout,
        classes=classes,
        file=file,
        held_out=held_out,
        truth=truths[1],
        reference=training,
        reference_truth=truths[0],
        golden=golden,
        gates=recipe.gates,
        rows={"training": len(training.raw), "held_out": len(held_out.raw)},
        seed=seed,
        by="train",
        times=(
            times_of(contract, training.columns, parts[0], recipe.time),
            times_of(contract, held_out.columns, parts[1], recipe.time),
        ),
    )
    return write_version(repository, fitted, report)


def _load(recipe: Recipe, folder: Path) -> pd.DataFrame:
    try:
        data = recipe.load()
    except (Exception, SystemExit) as error:
        raise TrainingError(
            f"load() in {folder / 'train.py'} raised {type(error).__name__}: {error}"
        ) from error
    if not hasattr(data, "columns"):
        raise TrainingError(f"load() in {folder / 'train.py'} must return a pandas DataFrame.")
    return data


def _split(
    recipe: Recipe, data: pd.DataFrame, seed: int, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    try:
        training, held_out = recipe.split(data, seed)
    except TrainingError:
        raise
    except (Exception, SystemExit) as error:
        raise TrainingError(
            f"split() in {folder / 'train.py'} must return two tables, one to train on and one "
            f"that is held out; {type(error).__name__}: {error}"
        ) from error
    return training, held_out


def _fit(
    recipe: Recipe, layout: InputLayout, training: Rows, truth: list[Any], seed: int, folder: Path
) -> Any:
    try:
        return recipe.build(seed).fit(layout.frame(training.inputs), truth)
    except (Exception, SystemExit) as error:
        raise TrainingError(
            f"The estimator of build() in {folder / 'train.py'} cannot be fitted: "
            f"{type(error).__name__}: {error}"
        ) from error
