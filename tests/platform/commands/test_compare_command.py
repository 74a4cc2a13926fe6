"""`compare`, and `promote` that refuses what would surprise callers, on real versions."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from model_service.prediction_log.store import open_store
from model_service.registry.traffic import read_traffic
from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.prediction_log.logged import logged
from tests.platform.training.small_repository import CONTRACT, NAME, TRAIN, make_repository

if TYPE_CHECKING:
    from pathlib import Path

# Version 2 is version 1 once more; 3 answers with the classes the other way round for red fruit;
# 4 takes a narrower contract; 5 the same with a major version that says so.
UPSIDE_DOWN = TRAIN.replace(
    'return pd.read_csv(Path(__file__).parents[2] / "data.csv")',
    'data = pd.read_csv(Path(__file__).parents[2] / "data.csv")\n'
    '    other = data.kind.map({"apple": "pear", "pear": "apple"})\n'
    "    return data.assign(kind=data.kind.where(data.length < 95, other))",
).replace("at_least=0.8, better_than_baseline_by=0.1", "at_least=0.3")
NARROWER = CONTRACT.replace("maximum: 300", "maximum: 200")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = make_repository(tmp_path_factory.mktemp("small"))
    folder = repository.models / NAME
    steps = [
        {},
        {},
        {"train.py": UPSIDE_DOWN},
        {"train.py": TRAIN, "contract.yaml": NARROWER},
        {"contract.yaml": NARROWER.replace('"1.0"', '"2.0"')},
    ]
    for step in steps:
        for name, text in step.items():
            (folder / name).write_text(text, encoding="utf-8")
        ran = command(repository, "train", NAME)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return repository


@pytest.fixture
def repository(trained: Repository, tmp_path: Path) -> Repository:
    """A copy of one's own."""
    return Repository(shutil.copytree(trained.root, tmp_path / "copy"))


def champion(repository: Repository) -> str | None:
    return read_traffic(repository.traffic).models[NAME].champion


def test_the_same_training_twice_differs_nowhere_and_is_promoted(repository: Repository) -> None:
    ran = command(repository, "compare", NAME, "1", "2")
    assert ran.returncode == 0, ran.stderr
    assert "0 differently (0.0%)" in ran.stdout
    promoted = command(repository, "promote", NAME, "2")
    assert promoted.returncode == 0, promoted.stderr
    assert "0 differently" in promoted.stdout
    assert champion(repository) == "2"


def test_decisions_that_flip_are_counted_and_placed(repository: Repository) -> None:
    shown = json.loads(command(repository, "compare", NAME, "1", "3", "--json").stdout)
    compared = shown["comparison"]
    assert compared["rows"] > 20
    assert sum(count for _, _, count in compared["flips"]) == compared["differing"] > 0
    worst = compared["slices"][0]
    assert worst["differing"] <= worst["rows"]
    printed = command(repository, "compare", NAME, "1", "3").stdout
    assert "apple" in printed
    assert "where" in printed


def test_too_many_flips_are_not_promoted_unless_that_is_accepted(repository: Repository) -> None:
    refused = command(repository, "promote", NAME, "3")
    assert refused.returncode == 1
    assert "of the decisions flip" in refused.stderr
    assert "--accept" in refused.stderr
    assert champion(repository) == "1"
    accepted = command(repository, "promote", NAME, "3", "--accept")
    assert accepted.returncode == 0
    assert champion(repository) == "3"
    # Going back is never held up.
    assert command(repository, "rollback", NAME).returncode == 0
    assert champion(repository) == "1"


def test_the_limit_is_that_of_service_yaml(repository: Repository) -> None:
    repository.service_file.write_text(
        "name: small\npromotion: {flipped_decisions: 1.0}\n", encoding="utf-8"
    )
    assert command(repository, "promote", NAME, "3").returncode == 0


def test_a_contract_that_breaks_callers_needs_a_new_major_version(repository: Repository) -> None:
    refused = command(repository, "promote", NAME, "4")
    assert refused.returncode == 1
    assert "features.length.maximum" in refused.stdout
    assert "contract_version" in refused.stderr
    assert champion(repository) == "1"
    assert command(repository, "promote", NAME, "5").returncode == 0
    assert champion(repository) == "5"


def test_nor_do_some_of_the_callers_get_a_contract_that_breaks_them(repository: Repository) -> None:
    before = repository.traffic.read_bytes()
    refused = command(repository, "canary", NAME, "4", "1")
    assert refused.returncode == 1
    assert "features.length.maximum" in refused.stdout
    assert f"canary {NAME} 4 1 --accept" in refused.stderr
    assert repository.traffic.read_bytes() == before
    assert command(repository, "canary", NAME, "4", "1", "--accept").returncode == 0
    assert command(repository, "canary", NAME, "4", "0").returncode == 0
    assert command(repository, "canary", NAME, "5", "1").returncode == 0
    repository.traffic.unlink()
    assert "need a champion" in command(repository, "canary", NAME, "2", "1").stderr


def test_callers_of_a_champion_that_is_broken_are_not_broken_too(repository: Repository) -> None:
    folder = repository.root / "registry" / NAME / "1"
    (folder / "model.onnx").chmod(0o644)
    (folder / "model.onnx").write_bytes(b"damaged")
    refused = command(repository, "promote", NAME, "4")
    assert refused.returncode == 1
    assert "features.length.maximum" in refused.stdout
    assert command(repository, "promote", NAME, "2").returncode == 0
    assert command(repository, "promote", NAME, "5").returncode == 0

    shutil.rmtree(repository.root / "registry" / NAME / "5")
    refused = command(repository, "promote", NAME, "2")
    assert refused.returncode == 1
    assert "nobody knows what version 5 promised" in refused.stderr
    assert command(repository, "promote", NAME, "2", "--accept").returncode == 0
    assert champion(repository) == "2"


def test_rows_of_a_file_are_compared_too(repository: Repository, tmp_path: Path) -> None:
    before = json.loads(command(repository, "compare", NAME, "1", "4", "--json").stdout)
    rows = [{"weight": 150, "length": 250, "colour": "red"}] * 7
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    ran = command(repository, "compare", NAME, "1", "4", "--json", "--file", str(file))
    after = json.loads(ran.stdout)
    assert after["comparison"]["only_old"] == before["comparison"]["only_old"] + 7
    assert [change["breaks"] for change in after["contract_changes"]] == [True]


@pytest.mark.parametrize("versions", [("1", "99"), ("0", "1"), ("1", "../1")])
def test_a_version_that_does_not_exist_is_named(
    repository: Repository, versions: tuple[str, str]
) -> None:
    ran = command(repository, "compare", NAME, *versions)
    assert ran.returncode == 2
    assert "cannot be loaded" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_rows_of_the_prediction_log_are_compared_and_the_declared_slices_told(
    repository: Repository,
) -> None:
    (repository.models / NAME / "model.yaml").write_text("slices: [colour]\n")
    store = open_store("prediction_log", repository.root)
    colours = ["green", "red", None]
    rows = [{"weight": 170.0, "length": 60.0 + n, "colour": colours[n % 3]} for n in range(60)]
    store.append([logged(n, model=NAME, received=row, used=row) for n, row in enumerate(rows)])
    store.append([logged(99, model=NAME, received=None, used=None)])
    store.close()

    # Two versions that agree everywhere: only what is declared is told of all the same.
    ran = command(repository, "compare", NAME, "1", "2", "--logged", "31", "--json")

    assert ran.returncode == 0, ran.stderr
    compared = json.loads(ran.stdout)["comparison"]
    assert compared["rows"] == 30
    told = {one["value"]: one["rows"] for one in compared["slices"]}
    assert told == {"green": 10, "red": 10, "missing": 10}


def test_a_log_without_whole_rows_is_no_base_for_a_comparison(repository: Repository) -> None:
    ran = command(repository, "compare", NAME, "1", "3", "--logged", "31")
    assert ran.returncode == 2
    assert "Of 0 logged rows of fruit none can be answered again" in ran.stderr
