"""`traffic.yaml`: strict when read, whole when written, and able to go back."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from model_service.registry.traffic import (
    HISTORY_KEPT,
    ModelTraffic,
    Traffic,
    TrafficError,
    canary,
    previous_champion,
    promote,
    promote_first,
    read_traffic,
    shadow,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic.yaml"


def test_a_file_that_is_not_there_names_no_model(path: Path) -> None:
    assert read_traffic(path) == Traffic()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {a: {champoin: '1'}}", "champoin"),
        ("model: {}", "model"),
        ("models: {a: {champion: 1}}", 'champion: "2"'),
        ("models: {a: {champion: latest}}", "champion"),
        ("models: {a: {champion: '../2'}}", "champion"),
        ("models: {a: {pinned: ['0']}}", "pinned"),
        ("models: {a: {champion: '1', challengers: {'2': 0}}}", "challengers"),
        ("models: {a: {champion: '1', challengers: {'2': 60, '3': 60}}}", "100 percent"),
        ("models: {a: {champion: '1', challengers: {'1': 5}}}", "is the champion and"),
        ("models: {a: {champion: '1', challengers: {'2': 5}, shadows: ['2']}}", "and a shadow"),
        ("models: {a: {shadows: ['2']}}", "need a champion"),
        ("models: [", "cannot be read"),
        ("models: {a: {champion: '1'}, a: {champion: '2'}}", "a second time"),
        ("models: !!python/name:os.system {}", "cannot be read"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(TrafficError) as refused:
        read_traffic(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_of_many_models_the_one_that_is_not_understood_is_named(path: Path) -> None:
    path.write_text("models: {a: {champion: '1'}, pear: {champion: '2', shadows: ['2']}}")
    with pytest.raises(TrafficError, match="pear: version 2 is the champion and in shadows"):
        read_traffic(path)


def test_promoting_keeps_the_history_and_the_other_models(path: Path) -> None:
    path.write_text("models: {b: {champion: '7', pinned: ['3']}}")
    promote(path, "a", "1", by="anna")
    promote(path, "a", "2", by="ben")
    traffic = read_traffic(path)
    assert traffic.models["b"] == ModelTraffic("7", pinned=("3",))
    assert traffic.models["b"].served == ("7", "3")
    assert [(c.champion, c.by) for c in traffic.models["a"].history] == [
        ("1", "anna"),
        ("2", "ben"),
    ]
    assert path.read_text().startswith("# Which version of each model answers")


def test_the_champion_before_is_the_one_to_go_back_to(path: Path) -> None:
    for version in ("1", "2", "2"):
        promote(path, "a", version, by="anna")
    assert previous_champion(path, "a") == "1"


def test_without_a_champion_before_there_is_nothing_to_go_back_to(path: Path) -> None:
    promote(path, "a", "1", by="anna")
    with pytest.raises(TrafficError, match="nothing to roll back to"):
        previous_champion(path, "a")


def test_the_history_does_not_grow_for_ever(path: Path) -> None:
    for version in range(1, HISTORY_KEPT + 4):
        promote(path, "a", str(version), by="anna")
    history = read_traffic(path).models["a"].history
    assert len(history) == HISTORY_KEPT
    assert history[-1].champion == str(HISTORY_KEPT + 3)


def test_only_a_model_without_champion_gets_its_first(path: Path) -> None:
    assert promote_first(path, "a", "1", by="train")
    before = path.read_bytes()
    assert not promote_first(path, "a", "2", by="train")
    assert path.read_bytes() == before


def test_changes_at_once_are_all_kept_and_leave_no_litter(path: Path) -> None:
    calls = [(path, f"model_{index}", "1", "train") for index in range(24)]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(promote_first, calls)
    assert len(read_traffic(path).models) == 24
    assert [each.name for each in path.parent.iterdir()] == ["traffic.yaml"]


def test_a_canary_grows_ends_and_is_remembered(path: Path) -> None:
    promote(path, "a", "1", by="anna")
    canary(path, "a", "2", 5, by="ben")
    assert canary(path, "a", "2", 20, by="ben").challengers == {"2": 20}
    assert canary(path, "a", "2", 0, by="ben").challengers == {}
    entry = read_traffic(path).models["a"]
    assert [dict(line.challengers) for line in entry.history] == [{}, {"2": 5}, {"2": 20}, {}]
    assert entry.champion == "1"


def test_what_becomes_champion_is_no_longer_a_challenger_or_a_shadow(path: Path) -> None:
    promote(path, "a", "1", by="anna")
    canary(path, "a", "2", 5, by="anna")
    shadow(path, "a", "3", by="anna")
    promote(path, "a", "2", by="anna")
    promote(path, "a", "3", by="anna")
    entry = read_traffic(path).models["a"]
    assert (entry.champion, entry.challengers, entry.shadows) == ("3", {}, ())
    assert previous_champion(path, "a") == "2"


def test_a_shadow_that_becomes_a_challenger_is_no_shadow(path: Path) -> None:
    promote(path, "a", "1", by="anna")
    shadow(path, "a", "2", by="anna")
    entry = canary(path, "a", "2", 1, by="anna")
    assert (entry.challengers, entry.shadows) == ({"2": 1}, ())
    assert shadow(path, "a", "3", by="anna").shadows == ("3",)
    assert shadow(path, "a", "3", by="anna", on=False).shadows == ()


@pytest.mark.parametrize(
    ("version", "percent", "said"),
    [("1", 5, "champion"), ("2", 101, "100 percent"), ("3", 60, "100 percent")],
)
def test_a_canary_that_cannot_be_changes_nothing(
    path: Path, version: str, percent: float, said: str
) -> None:
    promote(path, "a", "1", by="anna")
    canary(path, "a", "2", 50, by="anna")
    before = path.read_bytes()
    with pytest.raises(TrafficError, match=said):
        canary(path, "a", version, percent, by="anna")
    assert path.read_bytes() == before


def test_without_a_champion_there_is_nothing_to_challenge(path: Path) -> None:
    with pytest.raises(TrafficError, match="need a champion"):
        canary(path, "a", "2", 50, by="anna")
    with pytest.raises(TrafficError, match="need a champion"):
        shadow(path, "a", "2", by="anna")
    assert not path.exists()
