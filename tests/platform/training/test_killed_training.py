"""Killing `train` at any moment leaves no half version, and the next training works."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from model_service.registry import registry, traffic
from model_service.registry.loaded_version import load_version
from model_service.registry.traffic import read_traffic
from model_service.repository import Repository
from model_service.training import train, version_writing
from tests.platform.training.small_repository import NAME, make_repository

FORK = multiprocessing.get_context("fork")
PLACES: dict[str, tuple[Any, str]] = {
    "while writing": (version_writing, "write_reference"),
    "before the manifest": (registry, "write_manifest"),
    "before it is durable": (registry, "_make_durable"),
    "before the rename": (Path, "rename"),
    "before the champion": (traffic, "promote_first"),
}
WHOLE = {"before the champion"}


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _train_until(step: str, root: Path) -> None:
    setattr(*PLACES[step], _die)
    train(Repository(root), NAME)


@pytest.mark.parametrize("step", PLACES)
def test_a_training_that_is_killed_leaves_no_half_version(tmp_path: Path, step: str) -> None:
    repository = make_repository(tmp_path)
    versions = registry.Registry(repository.root / "registry")
    training = FORK.Process(target=_train_until, args=(step, tmp_path))
    training.start()
    training.join()
    assert training.exitcode == -signal.SIGKILL
    left = versions.versions(NAME)
    assert left == (["1"] if step in WHOLE else [])
    for version in left:
        assert load_version(versions.folder(NAME, version)).replay_golden() == []
    assert read_traffic(repository.traffic).models == {}

    trained = train(repository, NAME)

    assert trained.version not in left
    assert load_version(trained.folder).replay_golden() == []
    assert read_traffic(repository.traffic).models[NAME].champion == trained.version
    assert not list((versions.path / NAME).glob(".incoming-*"))


def _train(root: Path) -> str:
    return train(Repository(root), NAME).version


def test_trainings_at_once_give_a_version_each_and_one_champion(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    with FORK.Pool(2) as pool:
        numbers = pool.map(_train, [tmp_path] * 3, chunksize=1)
    assert sorted(numbers) == ["1", "2", "3"]
    for version in numbers:
        folder = registry.Registry(repository.root / "registry").folder(NAME, version)
        assert load_version(folder).replay_golden() == []
    assert len(read_traffic(repository.traffic).models[NAME].history) == 1
