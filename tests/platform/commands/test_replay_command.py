"""`replay`: answers of a real service, explained from their ids."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_service.prediction_log.sqlite_database import FILE
from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.serving.server_process import ServerProcess
from tests.platform.training.small_repository import NAME, make_repository

ROW = {"weight": 150, "length": 70, "colour": "red"}


@contextmanager
def serving(repository: Repository) -> Iterator[ServerProcess]:
    serve = ["serve", "--port", "0"]
    run = [sys.executable, "-m", "model_service", "--repository", str(repository.root), *serve]
    server = ServerProcess(run)
    try:
        server.wait_until_loaded()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, list[str]]:
    """A repository whose service has answered a clean row and a dirty one, and their ids."""
    repository = make_repository(tmp_path_factory.mktemp("replayed"))
    (repository.root / "service.yaml").write_text("name: small\nserver: {drain_seconds: 0}\n")
    ran = command(repository, "train", NAME)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with serving(repository) as server:
        rows = [ROW, {"weight": 900, "length": 70, "colour": "blue"}]
        answer = server.client.post(f"/v1/models/{NAME}/predict", json={"rows": rows}).json()
    return repository, [row["prediction_id"] for row in answer["rows"]]


@pytest.fixture
def repository(answered: tuple[Repository, list[str]], tmp_path: Path) -> Repository:
    """A copy of one's own."""
    return Repository(shutil.copytree(answered[0].root, tmp_path / "copy"))


def replayed(repository: Repository, prediction_id: str, exit_code: int = 0) -> Any:
    ran = command(repository, "replay", prediction_id, "--json")
    assert ran.returncode == exit_code, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def change(repository: Repository, statement: str, *values: Any) -> None:
    with sqlite3.connect(repository.root / "prediction_log" / FILE) as log:
        assert log.execute(statement, values).rowcount == 1


def test_a_dirty_row_is_explained_from_its_fields_to_its_answer(
    answered: tuple[Repository, list[str]],
) -> None:
    repository, (_, dirty) = answered
    told = replayed(repository, dirty)

    assert told["is_same"] is True
    assert told["prediction"]["version"] == "1"
    features = {one["feature"]: one for one in told["features"]}
    assert features["weight"]["received"] == 900
    assert features["weight"]["used"] == 500
    assert features["weight"]["warnings"] == ["out_of_range: clip"]
    assert features["colour"]["warnings"] == ["unknown_category: pass"]
    assert told["inputs"]["density"] == pytest.approx(500 / 70)
    assert told["value"] == told["prediction"]["value"]
    assert told["probabilities"].keys() == {"pear", "apple"}


def test_a_person_reads_what_was_sent_what_was_done_and_that_it_is_the_same(
    answered: tuple[Repository, list[str]],
) -> None:
    repository, (_, dirty) = answered
    ran = command(repository, "replay", dirty)
    assert ran.returncode == 0, ran.stderr
    for words in ("900", "out_of_range: clip", "500", "density", "answered the same today"):
        assert words in ran.stdout
    assert f"{NAME} version 1, as champion" in ran.stdout


def test_an_answer_that_is_another_one_today_is_told(
    repository: Repository, answered: tuple[Repository, list[str]]
) -> None:
    clean = answered[1][0]
    change(repository, "UPDATE predictions SET value = '\"plum\"' WHERE prediction_id = ?", clean)
    told = replayed(repository, clean, exit_code=1)
    assert told["is_same"] is False
    assert "instead of 'plum'" in told["differences"][0]


def test_what_the_log_does_not_hold_is_not_made_up(
    repository: Repository, answered: tuple[Repository, list[str]]
) -> None:
    clean = answered[1][0]
    used = '{"weight": 150.0, "colour": "red"}'
    change(repository, "UPDATE predictions SET used = ? WHERE prediction_id = ?", used, clean)

    told = replayed(repository, clean, exit_code=2)
    assert told["is_same"] is None
    assert told["value"] is None
    ran = command(repository, "replay", clean)
    assert ran.returncode == 2
    assert "the log has no length (not stored)" in ran.stdout

    change(repository, "UPDATE predictions SET used = NULL WHERE prediction_id = ?", clean)
    told = replayed(repository, clean, exit_code=2)
    assert {one["unavailable"] for one in told["features"]} == {"not stored"}
    assert told["prediction"]["value"]


def test_an_unknown_id_says_how_long_predictions_are_kept(repository: Repository) -> None:
    ran = command(repository, "replay", "nobody-1")
    assert ran.returncode == 2
    assert "the last 30 days" in ran.stderr
