"""Which versions are tried again, and when: files may still be on their way here."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from model_service.hooks import Hooks
from model_service.registry.loaded_version import LoadedVersion, VersionError
from model_service.registry.traffic import Traffic, read_traffic
from model_service.repository import Repository
from model_service.serving import version_loader
from model_service.serving.logs import LogWriter
from model_service.serving.metrics import Metrics
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.version_loader import VersionLoader
from model_service.settings import Settings

TRAFFIC = "models:\n  first: {champion: '1', history: []}\n  second: {champion: '1', history: []}\n"


class Damaged:
    """Versions that fail for what `codes` says, with files that `stamps` tells from others."""

    def __init__(self, traffic: Path) -> None:
        self.codes = {"first": "digest_mismatch", "second": "golden_mismatch"}
        self.stamps = {"first": 1, "second": 1}
        self.loads: Counter[str] = Counter()
        self.before_it_fails: Callable[[], object] = lambda: None
        self._traffic = traffic

    def traffic(self) -> Traffic:
        return read_traffic(self._traffic)

    def versions(self, _: str) -> list[str]:
        return ["1"]

    def stamp(self, model: str, _: str) -> object:
        return self.stamps[model]

    def load(self, model: str, _: str) -> LoadedVersion:
        self.loads[model] += 1
        self.before_it_fails()
        raise VersionError(self.codes[model], f"{model} fails")


@pytest.fixture
def source(tmp_path: Path) -> Damaged:
    (tmp_path / "traffic.yaml").write_text(TRAFFIC)
    return Damaged(tmp_path / "traffic.yaml")


@pytest.fixture
def told() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def loader(
    source: Damaged, told: io.BytesIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> VersionLoader:
    monkeypatch.setattr(version_loader, "SECONDS_UNTIL_ANOTHER_TRY", 0.0)
    settings, repository, hooks = Settings(name="t"), Repository(tmp_path), Hooks({}, print)
    log = LogWriter(told, "t")
    recorder = PredictionRecorder(settings, repository, log, hooks)
    metrics = Metrics(tuple, lambda: True)
    loader = VersionLoader(settings, repository, source, lambda: metrics, log, recorder, hooks)
    loader.load()
    assert source.loads == {"first": 1, "second": 1}
    return loader


def test_only_versions_whose_files_have_changed_are_loaded_again(
    loader: VersionLoader, source: Damaged
) -> None:
    for _ in range(3):
        assert not loader.follow(), "nothing that answers has changed"
    assert source.loads == {"first": 1, "second": 1}
    source.stamps["second"] = 2
    loader.follow()
    loader.follow()
    assert source.loads == {"first": 1, "second": 2}


def test_who_changes_traffic_has_all_that_failed_tried_again(
    loader: VersionLoader, source: Damaged, tmp_path: Path
) -> None:
    (tmp_path / "traffic.yaml").write_text(f"{TRAFFIC}# now\n")
    loader.follow()
    loader.follow()
    assert source.loads == {"first": 2, "second": 2}


def test_files_that_became_whole_while_they_were_loaded_are_loaded_again(
    loader: VersionLoader, source: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_loader, "SECONDS_FOR_A_VERSION", 0.01)
    failing = threading.Event()
    source.before_it_fails = lambda: failing.wait(60)
    source.stamps["first"] = 2
    loader.follow()
    assert loader.current.models["first"].versions["1"].code == "still_loading"
    source.stamps["first"] = 3  # the last of its files came; what is being read is older
    failing.set()
    deadline = time.monotonic() + 30
    while source.loads["first"] < 3:
        loader.follow()
        assert time.monotonic() < deadline
    assert loader.current.models["first"].versions["1"].code == "digest_mismatch"


def test_a_traffic_file_that_stays_broken_is_told_once(
    loader: VersionLoader, told: io.BytesIO, tmp_path: Path
) -> None:
    (tmp_path / "traffic.yaml").write_text("models: [")
    for _ in range(5):
        assert not loader.follow()
    assert loader.traffic_fault
    loader._log.start()
    loader._log.stop()
    assert told.getvalue().count(b"traffic.yaml is not followed") == 1
