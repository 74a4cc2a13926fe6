"""`ground-truth import`: tables of what really happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from model_service.cli.main import app
from model_service.contract.reading import parse_contract
from model_service.prediction_log.pseudonyms import read_pseudonyms
from model_service.prediction_log.store import open_store
from model_service.prediction_log.stored_features import StoredFeatures
from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.prediction_log.logged import logged
from tests.platform.training.small_repository import CONTRACT, NAME, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository whose log has three answers, each with the weight of the fruit as its key."""
    repository = make_repository(tmp_path)
    (repository.model_folder(NAME) / "model.yaml").write_text("ground_truth: {key: [weight]}\n")
    contract = parse_contract(CONTRACT, tmp_path, model=NAME)
    pseudonyms = read_pseudonyms("", "prediction_log", tmp_path)
    stored = StoredFeatures(contract, "none", ["weight"], pseudonyms)
    store = open_store("prediction_log", tmp_path)
    keys = stored.keys([(weight, 70.0, "red") for weight in (150.0, 160.0, 170.0)])
    store.append([logged(n, model=NAME, key=key) for n, key in enumerate(keys)])
    store.close()
    return repository


def truths(repository: Repository) -> dict[str, Any]:
    store = open_store("prediction_log", repository.root)
    found = {row.prediction_id: truth for row, truth in store.joined(NAME, None, 0.0, 1e12)}
    store.close()
    return found


def imported(repository: Repository, text: str, *more: str) -> Any:
    (repository.root / "truth.csv").write_text(text)
    file = str(repository.root / "truth.csv")
    ran = command(repository, "ground-truth", "import", file, "--json", *more)
    assert ran.returncode in (0, 1), ran.stderr
    return json.loads(ran.stdout)


def test_a_table_with_prediction_ids_is_imported_and_again_and_corrected(
    repository: Repository,
) -> None:
    table = "prediction_id,value\np-0,pear\np-1,apple\np-9,pear\n"

    first = imported(repository, table)
    again = imported(repository, table.replace("p-0,pear", "p-0,apple") + "p-2,plum\n")

    assert [one["result"] for one in first["rows"]] == ["matched", "matched", "unknown"]
    assert [one["result"] for one in again["rows"]] == [
        *("corrected", "repeated", "unknown", "refused"),
    ]
    assert truths(repository) == {"p-0": "apple", "p-1": "apple"}


def test_a_table_with_key_features_is_imported(repository: Repository) -> None:
    table = "weight,colour,at,value\n150,red,2001-01-01T00:00:00Z,pear\n160,red,,apple\n"

    answer = imported(repository, table, "--model", NAME)

    assert answer["matched"] == 2
    assert truths(repository) == {"p-0": "pear", "p-1": "apple"}


def test_a_person_is_told_what_became_of_the_rows(repository: Repository) -> None:
    table = pd.DataFrame({"prediction_id": ["p-0", "p-7", "p-1"], "value": ["pear", "x", "plum"]})
    table.to_csv(repository.root / "truth.csv", index=False)

    ran = command(repository, "ground-truth", "import", str(repository.root / "truth.csv"))

    assert ran.returncode == 1
    assert "1 belong to a prediction" in ran.stdout
    assert "1 belong to no prediction" in ran.stdout
    assert "one of pear, apple" in ran.stdout


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("id,value\n1,pear\n", [], "prediction_id is missing"),
        ("prediction_id\np-0\n", [], "value is missing"),
        ("length,value\n1,pear\n", ["--model", NAME], "weight is missing"),
        ("weight,value\n1,pear\n", ["--model", "nothing"], "no model"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_whole(
    repository: Repository, text: str, more: list[str], said: str
) -> None:
    (repository.root / "truth.csv").write_text(text)
    ran = command(repository, "ground-truth", "import", str(repository.root / "truth.csv"), *more)
    assert ran.returncode == 2
    assert said in ran.stderr


def test_a_parquet_table_with_its_own_kinds_of_values_is_imported(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = pd.to_datetime(["2001-01-01T00:00:00Z", None], utc=True)
    table = pd.DataFrame(
        {
            "weight": pd.array([150, 160], dtype="Int64"),
            "at": moments,
            "value": pd.array(["pear", "apple"], dtype="string"),
        }
    )
    file = repository.root / "truth.parquet"
    file.touch()
    # Reading Parquet needs pyarrow, which a service may do without; all else is the command's own.
    monkeypatch.setattr(pd, "read_parquet", {file: table}.__getitem__)

    where = ["--repository", str(repository.root)]
    ran = CliRunner().invoke(app, [*where, "ground-truth", "import", str(file), "--model", NAME])

    assert ran.exit_code == 0, ran.output
    assert truths(repository) == {"p-0": "pear", "p-1": "apple"}
