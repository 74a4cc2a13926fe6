"""`package`: a version from an estimator that is fitted already, as in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from model_service.contract.contract import Contract
from model_service.contract.reading import read_contract
from model_service.contract.table import check_rows, check_table
from model_service.files import write_atomically
from model_service.registry.inputs import layout_of
from model_service.registry.manifest import ImportedFile
from model_service.repository import Repository, find_repository
from model_service.training.gate import Gate
from model_service.training.model_file import answers_of, model_file_of
from model_service.training.recipe import TrainingError
from model_service.training.version_writing import (
    Fitted,
    Report,
    TrainedVersion,
    classes_of,
    dirty_rows,
    frozen_from,
    original_answers,
    rows_of_table,
    truth_of,
    write_version,
)

RAW_FEATURES = '''\
"""Raw columns to the model's inputs: the same code in training and in serving."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

# The order in which the estimator was fitted.
INPUTS = {names}


def features(columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Return the columns as the estimator was given them."""
    return {{name: columns[name] for name in INPUTS}}
'''


def package(
    estimator: Any,
    X: Any,  # noqa: N803 - what everybody calls them
    y: Any,
    *,
    name: str,
    gates: Sequence[Gate] = (),
    allow_pickle: bool = False,
    repository: Repository | Path | None = None,
    report: Report = print,
) -> TrainedVersion:
    """Write a version from a fitted estimator, and return it.

    `X`, a table, and `y` should be rows that the estimator was not fitted on: metrics, golden
    predictions and the reference profile come from them. A model's folder that has no contract
    gets one drafted from them, to be corrected by a person; without a `features.py` the estimator
    takes the columns as they are. The version must answer these rows as the estimator does.

    Raises:
        ContractError: the contract of the model has faults.
        TrainingError: the rows do not fit the contract, or no format carries the estimator.
    """
    where = repository if isinstance(repository, Repository) else find_repository(repository)
    if not hasattr(X, "columns") or len(X) != len(y):
        raise TrainingError(f"X must be a table with a row for each of the {len(y)} values of y.")
    return package_original(
        where,
        Original(estimator, target=str(_name_of(y) or "target")),
        X,
        np.asarray(y),
        name=name,
        gates=gates,
        allow_pickle=allow_pickle,
        report=report,
    )


class Original(msgspec.Struct, frozen=True):
    """A fitted estimator, what its output is called in a drafted contract, and its file if it came
    from one."""

    estimator: Any
    target: str
    file: ImportedFile | None = None


def package_original(
    where: Repository,
    original: Original,
    X: Any,  # noqa: N803 - what everybody calls them
    y: Any,
    *,
    name: str,
    gates: Sequence[Gate],
    allow_pickle: bool,
    report: Report,
) -> TrainedVersion:
    """Do what `package` does; `y` is None where the truth of the rows is not known."""
    folder, estimator = where.model_folder(name), original.estimator
    _draft(folder, original, X, y, report)
    contract = read_contract(folder / "contract.yaml")
    frozen = frozen_from(folder, contract)
    if y is None:
        data, checked = X, check_rows(X, contract, frozen.reader)
    else:
        data = X.assign(**{contract.output.name: y})
        checked = check_table(data, contract, frozen.reader)
    problems = checked.problems
    if problems:
        raise TrainingError("The rows do not fit the contract:\n" + "\n".join(problems))
    rows = rows_of_table(frozen, data)
    layout = layout_of(rows.inputs)
    classes = classes_of(estimator, contract)
    golden, proving = dirty_rows(frozen, rows)
    expected = original_answers(frozen, estimator, layout, proving)
    expected[: len(X)] = _given(estimator, X, contract, expected[: len(X)])
    file = model_file_of(
        estimator,
        layout,
        proving.inputs,
        expected,
        has_classes=bool(classes),
        allow_pickle=allow_pickle,
        report=report,
    )
    truth = [] if y is None else truth_of(contract, data[contract.output.name].tolist())
    fitted = Fitted(
        frozen=frozen,
        layout=layout,
        classes=classes,
        file=file,
        held_out=rows,
        truth=truth,
        reference=rows,
        reference_truth=truth,
        golden=golden,
        gates=gates,
        rows={"held_out": len(rows.raw)},
        seed=0,
        by="package" if original.file is None else "import",
        imported=original.file,
    )
    version = write_version(where, fitted, report)
    report(f"{name} version {version.version} ({version.format}): {version.folder}")
    return version


def _name_of(y: Any) -> Any:
    return getattr(y, "name", None)


def _draft(folder: Path, original: Original, X: Any, y: Any, report: Report) -> None:  # noqa: N803
    path = folder / "contract.yaml"
    if not path.is_file():
        from model_service.contract.inference import draft_contract

        target = y if y is not None else _likely(original.estimator, X)
        text = draft_contract(X.assign(**{original.target: target}), original.target, folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
        report(f"drafted {path}: read and correct it, others rely on it")
    code = folder / "features.py"
    if not code.is_file():
        names = tuple(str(column) for column in X.columns)
        write_atomically(code, RAW_FEATURES.format(names=names).encode())


def _likely(estimator: Any, X: Any) -> Any:  # noqa: N803
    """Return what the estimator answers, where nobody knows what was true."""
    answers = np.asarray(estimator.predict(X))
    if answers.ndim == 2 and len(getattr(estimator, "classes_", ())):
        return np.asarray(estimator.classes_)[answers.argmax(axis=1)]
    return answers.ravel() if answers.shape[-1] == 1 else list(answers)


def _given(estimator: Any, X: Any, contract: Contract, read: Any) -> Any:  # noqa: N803
    """Return what the estimator answers for the table itself, or, where `features.py` makes the
    estimator's columns from others, for what was made of it."""
    fitted_on = getattr(estimator, "feature_names_in_", None)
    if fitted_on is not None and not set(map(str, fitted_on)) <= set(map(str, X.columns)):
        return read
    table = X if fitted_on is None else X[list(fitted_on)]
    return answers_of(estimator, table, contract.output.type == "class")
