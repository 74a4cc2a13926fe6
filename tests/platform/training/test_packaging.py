"""`package`: an estimator from a notebook becomes the same kind of version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

from model_service import package
from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import read_manifest
from model_service.registry.registry import Registry
from model_service.training import Gate, TrainingError
from tests.platform.training.small_repository import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from model_service.repository import Repository


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path)


@pytest.fixture
def data(repository: Repository) -> Any:
    return pd.read_csv(repository.root / "data.csv").dropna()


def test_a_fitted_estimator_becomes_a_version_that_answers_like_it(
    repository: Repository, data: Any
) -> None:
    inputs = data[["length", "weight"]]
    forest = RandomForestClassifier(5, random_state=0).fit(inputs[::2], data["kind"][::2])
    held_out = inputs[1::2]
    version = package(
        forest, held_out, data["kind"][1::2], name="sorts", repository=repository, report=quiet
    )
    loaded = load_version(version.folder)
    assert (version.version, version.format) == ("1", "onnx")
    assert loaded.replay_golden() == []
    answers = loaded.predict(loaded.reader.read_rows(held_out.to_dict("records")).values)
    assert answers.values == list(forest.predict(held_out))
    assert read_manifest(version.folder).rows == {"held_out": len(held_out)}


def test_gates_hold_for_it_as_well(repository: Repository, data: Any) -> None:
    line = LinearRegression().fit(data[["length"]], data["weight"])
    with pytest.raises(TrainingError, match="r2 is"):
        package(
            line,
            data[["length"]],
            data["weight"],
            name="weights",
            gates=[Gate("r2", at_least=0.999)],
            repository=repository,
            report=quiet,
        )
    assert Registry(repository.root / "registry").versions("weights") == []


def test_an_estimator_that_saw_other_values_than_the_contract_lets_through_is_refused(
    repository: Repository, data: Any
) -> None:
    line = LinearRegression().fit(data[["length"]], data["weight"])
    table, weight = data[["length"]], data["weight"]
    package(line, table, weight, name="weights", repository=repository, report=quiet)
    contract = repository.model_folder("weights") / "contract.yaml"
    lines = contract.read_text().splitlines()
    narrow = ["    maximum: 80" if line.startswith("    maximum:") else line for line in lines]
    narrow = [line for line in narrow if not line.startswith("    on_out_of_range:")]
    narrow.insert(narrow.index("    maximum: 80") + 1, "    on_out_of_range: clip")
    head, _, _ = "\n".join(narrow).partition("\nexamples:")
    contract.write_text(head + "\n")
    with pytest.raises(TrainingError, match="as the contract reads them"):
        package(line, table, weight, name="weights", repository=repository, report=quiet)
