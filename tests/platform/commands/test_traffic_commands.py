"""`promote`, `rollback`, `canary` and `shadow`, as their user types them, on real versions."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from model_service.cli.main import main
from model_service.registry.traffic import ModelTraffic, read_traffic
from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.training.small_repository import NAME, make_repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with three versions of one model, of which the first is champion."""
    repository = make_repository(tmp_path_factory.mktemp("small"))
    for _ in range(3):
        ran = command(repository, "train", NAME)
        assert ran.returncode == 0, ran.stderr
    return repository


@pytest.fixture
def repository(trained: Repository, tmp_path: Path) -> Repository:
    """A copy of one's own."""
    return Repository(shutil.copytree(trained.root, tmp_path / "copy"))


def entry_of(repository: Repository) -> ModelTraffic:
    return read_traffic(repository.traffic).models[NAME]


def test_canary_and_shadow_say_who_answers_what(repository: Repository) -> None:
    ran = command(repository, "canary", NAME, "2", "12.5")
    assert ran.returncode == 0, ran.stderr
    assert "version 1 (champion) answers 87.5%" in ran.stdout
    assert "version 2 answers 12.5%" in ran.stdout
    ran = command(repository, "shadow", NAME, "3")
    assert "version 3 is a shadow" in ran.stdout
    assert (entry_of(repository).challengers, entry_of(repository).shadows) == ({"2": 12.5}, ("3",))
    listed = command(repository, "list").stdout
    assert "challenger 12.5%" in listed
    assert "shadow" in listed

    assert command(repository, "canary", NAME, "2", "0").returncode == 0
    assert command(repository, "shadow", NAME, "3", "--off").returncode == 0
    assert (entry_of(repository).challengers, entry_of(repository).shadows) == ({}, ())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["canary", NAME, "9", "5"], "no version '9'"),
        (["canary", NAME, "1", "5"], "champion"),
        (["canary", NAME, "2", "101"], "PERCENT"),
        (["canary", "pear", "2", "5"], "no model"),
        (["shadow", NAME, "1"], "champion"),
        (["shadow", NAME, "../1"], "1"),
        (["promote", NAME, "9"], "no version '9'"),
        (["verify", NAME, "9"], "no version '9'"),
        (["show", NAME, "9"], "no version '9'"),
        (["compare", NAME, "1", "9"], "no version '9'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    repository: Repository, arguments: list[str], said: str
) -> None:
    before = repository.traffic.read_bytes()
    ran = command(repository, *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1 or "Usage" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert repository.traffic.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", NAME, "--seed", "-1"], "--seed"),
        (["train", NAME, "--since", "2026-13-01"], "--since"),
        (["handoff", "plan", "--today", "tomorrow"], "--today"),
        (["predict", NAME, "--file", "empty.csv"], "is empty"),
        (["predict", NAME, "--file", "latin.csv"], "not UTF-8"),
        (["compare", NAME, "1", "2", "--file", "ragged.csv"], "cannot be read as a table"),
        (["predict", NAME, "--file", "."], "--file"),
        (["compare", NAME, "1", "2", "--file", "."], "--file"),
        (["predict", NAME, "--row", '{"colour": "\udcff"}'], "is not UTF-8"),
        (["replay", "\udcff"], "is not UTF-8"),
        (["report", ""], "is a directory"),
        (["report", "nowhere/report.html"], "Is the path right"),
        (["contract", "check", "a" * 300], "Is the path right"),
    ],
)
def test_a_wrong_argument_is_answered_with_a_sentence(
    repository: Repository,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, content in (("empty", b""), ("latin", b"a\n\xe9\n"), ("ragged", b"a\n1,2\n1,2,3\n")):
        (repository.root / f"{name}.csv").write_bytes(content)
    monkeypatch.chdir(repository.root)
    monkeypatch.setattr("sys.argv", ["acme", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["promote"], ["canary"], ["shadow"]])
def test_a_version_whose_files_were_changed_gets_no_traffic(
    repository: Repository, words: list[str]
) -> None:
    model = repository.root / "registry" / NAME / "2" / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    before = repository.traffic.read_bytes()
    ran = command(repository, *words, NAME, "2", *(["5"] if words == ["canary"] else []))
    assert ran.returncode == 1
    assert "may not answer" in ran.stderr
    assert repository.traffic.read_bytes() == before


def test_a_card_that_was_changed_is_not_shown(repository: Repository) -> None:
    card = repository.root / "registry" / NAME / "2" / "card.md"
    assert "Gates" in command(repository, "show", NAME, "2").stdout
    card.chmod(0o644)
    card.write_bytes(b"\xff")
    ran = command(repository, "show", NAME, "2")
    assert ran.returncode == 2
    assert "not what was trained" in ran.stderr


def test_promote_ends_the_canary_and_rollback_brings_the_old_champion_back(
    repository: Repository,
) -> None:
    command(repository, "canary", NAME, "2", "50")
    assert command(repository, "promote", NAME, "2").returncode == 0
    assert (entry_of(repository).champion, entry_of(repository).challengers) == ("2", {})
    assert command(repository, "rollback", NAME).returncode == 0
    assert entry_of(repository).champion == "1"
