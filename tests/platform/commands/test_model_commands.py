"""`new` and `contract check`, as their user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_service.new_model import NewModelError, start_model
from model_service.repository import Repository
from tests.platform.commands.command import command

DATA = "weight,colour,kind\n" + "150,red,apple\n120,green,pear\n" * 40


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository without a model, and data beside it."""
    root = tmp_path / "acme"
    (root / "models").mkdir(parents=True)
    (root / "service.yaml").write_text("name: acme\n", encoding="utf-8")
    (tmp_path / "fruit.csv").write_text(DATA, encoding="utf-8")
    return Repository(root)


def test_new_drafts_a_contract_and_keeps_the_data(repository: Repository, tmp_path: Path) -> None:
    files = start_model(repository, "fruit", tmp_path / "fruit.csv", "kind")
    folder = repository.models / "fruit"
    assert {str(path.relative_to(folder)) for path in files} == {
        *["contract.yaml", "train.py", "features.py", "card.md", "model.yaml"],
        "tests/test_behaviour.py",
    }
    assert (repository.root / "data/fruit.csv").read_text(encoding="utf-8") == DATA
    assert command(repository, "contract", "check", "fruit").returncode == 0


def test_a_model_with_dates_written_as_text_trains_as_it_was_started(
    repository: Repository, tmp_path: Path
) -> None:
    days = [f"{day}.{month}.2026" for month in (1, 2, 3) for day in range(1, 29)]
    rows = [f"{day},{'new' if '.3.' in day else 'old'}" for day in days]
    data = tmp_path / "visits.csv"
    data.write_text("seen on,kind\n" + "\n".join([*rows, *rows]) + "\n", encoding="utf-8")
    started = command(repository, "new", "visits", "--data", str(data), "--target", "kind")
    assert started.returncode == 0, started.stderr
    # 3.2.2026 is a day of February: read as one of March, it would be a wrong label.
    loading = (repository.models / "visits/train.py").read_text(encoding="utf-8")
    assert "format='%d.%m.%Y'" in loading
    (repository.root / "traffic.yaml").write_text("models: {}\n", encoding="utf-8")
    trained = command(repository, "train", "visits")
    assert trained.returncode == 0, trained.stdout + trained.stderr


@pytest.mark.parametrize(
    "name", ["", "Fruit", "2fruit", "fruit-model", "../fruit", "a" * 64, "früit"]
)
def test_new_refuses_a_name_and_writes_nothing(
    repository: Repository, tmp_path: Path, name: str
) -> None:
    with pytest.raises(NewModelError, match="cannot be a model's name"):
        start_model(repository, name, tmp_path / "fruit.csv", "kind")
    assert list(repository.models.iterdir()) == []
    assert not (repository.root / "data").exists()


def test_new_never_overwrites_a_model(repository: Repository, tmp_path: Path) -> None:
    start_model(repository, "fruit", tmp_path / "fruit.csv", "kind")
    contract = repository.models / "fruit/contract.yaml"
    contract.write_text("ours\n", encoding="utf-8")
    ran = command(
        repository, "new", "fruit", "--data", str(tmp_path / "fruit.csv"), "--target", "kind"
    )
    assert ran.returncode == 2
    assert "is there already" in ran.stderr
    assert contract.read_text(encoding="utf-8") == "ours\n"


def test_new_never_overwrites_data(repository: Repository, tmp_path: Path) -> None:
    kept = repository.root / "data/fruit.csv"
    kept.parent.mkdir()
    kept.write_text("ours\n", encoding="utf-8")
    with pytest.raises(NewModelError, match="is there already"):
        start_model(repository, "fruit", tmp_path / "fruit.csv", "kind")
    assert kept.read_text(encoding="utf-8") == "ours\n"
    assert not (repository.models / "fruit").exists()


def test_files_of_a_teams_own_scaffold_replace_the_platforms(
    repository: Repository, tmp_path: Path
) -> None:
    own = repository.models / ".scaffold/train.py"
    own.parent.mkdir()
    own.write_text("# how we train\n", encoding="utf-8")
    start_model(repository, "fruit", tmp_path / "fruit.csv", "kind")
    assert (repository.models / "fruit/train.py").read_text(encoding="utf-8") == "# how we train\n"
    assert (repository.models / "fruit/features.py").is_file()


def test_contract_check_names_features_whose_source_nobody_wrote_down(
    repository: Repository, tmp_path: Path
) -> None:
    data = tmp_path / "marked up.csv"
    data.write_text(DATA.replace("colour", "[/colour]"), encoding="utf-8")
    start_model(repository, "fruit", data, "kind")
    asked = command(repository, "contract", "check")
    assert asked.returncode == 0, asked.stderr
    assert "weight, [/colour]" in asked.stdout
    contract = repository.models / "fruit/contract.yaml"
    contract.write_text(
        contract.read_text(encoding="utf-8").replace('"?"', "warehouse"), encoding="utf-8"
    )
    assert "who would announce" not in command(repository, "contract", "check").stdout


def test_contract_check_explains_a_fault_with_its_line_and_cure(
    repository: Repository, tmp_path: Path
) -> None:
    start_model(repository, "fruit", tmp_path / "fruit.csv", "kind")
    contract = repository.models / "fruit/contract.yaml"
    text = contract.read_text(encoding="utf-8")
    line = 1 + text[: text.index("type: category")].count("\n")
    contract.write_text(text.replace("type: category", "type: catgory"), encoding="utf-8")
    ran = command(repository, "contract", "check")
    assert ran.returncode == 1
    assert f"contract.yaml:{line}" in ran.stdout
    assert "category" in ran.stdout


def test_serve_without_a_model_says_how_to_start_one(repository: Repository) -> None:
    ran = command(repository, "serve", "--port", "0")
    assert ran.returncode == 2
    assert "acme new" in ran.stderr


def test_serve_without_a_version_says_how_to_train(repository: Repository, tmp_path: Path) -> None:
    start_model(repository, "fruit", tmp_path / "fruit.csv", "kind")
    ran = command(repository, "serve", "--port", "0")
    assert ran.returncode == 2
    assert "train" in ran.stderr
    said = command(repository, "verify", "--all").stderr
    assert "`python -m model_service train --all`" in said
