"""`loadtest`: where the SLO breaks, and what that means in replicas."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from model_service.files import sha256_of
from model_service.handoff.load_callers import UNANSWERED, Exchange
from model_service.handoff.load_evidence import (
    LoadEvidence,
    LoadEvidenceError,
    ModelLoad,
    load_evidence_file,
    read_load_evidence,
)
from model_service.handoff.load_test import replicas_for, step_of
from model_service.registry.manifest import MANIFEST
from model_service.settings import Slo
from model_service.training import train
from tests.platform.commands.command import command
from tests.platform.training.small_repository import FEATURES, make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from model_service.repository import Repository

SLO = Slo(availability=0.9, latency_milliseconds=100, latency_share=0.5)


def load(model: str, sustained: float, peak: float) -> ModelLoad:
    return ModelLoad(
        model=model,
        version="1",
        manifest_sha256="",
        steps=(),
        requests_per_second=sustained,
        per_core=None,
        memory_bytes=None,
        peak_requests_per_second=peak,
        broke_at=None,
    )


@pytest.mark.parametrize(
    ("loads", "headroom", "replicas"),
    [
        ([load("a", 100, 10)], 1.0, 1),
        ([load("a", 100, 60)], 1.0, 2),
        ([load("a", 100, 60)], 0.0, 1),
        ([load("a", 100, 60), load("b", 50, 20)], 1.0, 2),
        ([load("a", 100, 60), load("b", 50, 21)], 1.0, 3),
        ([load("a", 100, 60), load("b", 0, 1)], 1.0, None),
    ],
)
def test_models_share_replicas_and_peaks_come_together(
    loads: list[ModelLoad], headroom: float, replicas: int | None
) -> None:
    assert replicas_for(loads, headroom) == replicas


def exchanges(*pairs: tuple[float, int]) -> list[Exchange]:
    return [Exchange(0.0, seconds, status) for seconds, status in pairs]


def test_a_step_keeps_the_slo_only_if_enough_are_answered_and_in_time() -> None:
    quick, late, refused = (0.01, 200), (0.2, 200), (0.01, 429)
    assert step_of(exchanges(*[quick] * 5, *[late] * 5), 1, 1.0, 0.1, SLO).keeps_slo
    assert not step_of(exchanges(*[quick] * 4, *[late] * 5), 1, 1.0, 0.1, SLO).keeps_slo
    assert step_of(exchanges(*[quick] * 9, refused), 1, 1.0, 0.1, SLO).keeps_slo
    assert not step_of(exchanges(*[quick] * 8, *[refused] * 2), 1, 1.0, 0.1, SLO).keeps_slo
    silent = step_of(exchanges((10.0, UNANSWERED)), 1, 1.0, None, SLO)
    assert (silent.answered, silent.keeps_slo, silent.cpu_milliseconds) == (0.0, False, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = make_repository(tmp_path_factory.mktemp("load"))
    train(repository, "fruit")
    return repository


def test_the_evidence_is_bound_to_the_version_and_says_what_a_core_does(
    trained: Repository,
) -> None:
    (trained.model_folder("fruit") / "model.yaml").write_text(
        "traffic: {peak_requests_per_second: 1}\n"
    )
    generous = "slo: {latency_milliseconds: 5000, availability: 0.9}"
    trained.service_file.write_text(f"name: small\n{generous}\n")
    words = ["loadtest", "--seconds", "0.5", "--most-callers", "2", "--rows", "3"]
    ran = command(trained, *words, "--json")
    assert ran.returncode == 0, ran.stderr
    evidence = read_load_evidence(trained)
    assert msgspec.json.decode(ran.stdout, type=LoadEvidence) == evidence
    assert evidence is not None
    (fruit,) = evidence.models
    assert fruit.manifest_sha256 == sha256_of(trained.root / "registry/fruit/1" / MANIFEST)
    assert [step.callers for step in fruit.steps] == [1, 2]
    assert fruit.broke_at is None
    assert fruit.requests_per_second == max(step.requests_per_second for step in fruit.steps)
    assert fruit.per_core is not None
    assert 10 < fruit.per_core < 1_000_000
    assert fruit.memory_bytes is not None
    assert (evidence.replicas, evidence.rows_per_request) == (1, 3)
    assert not (trained.root / "prediction_log").exists()


def test_a_model_that_is_too_slow_for_the_slo_ends_with_1(tmp_path: Path) -> None:
    slow = FEATURES.replace("    return", "    import time\n    time.sleep(0.05)\n    return")
    repository = make_repository(tmp_path, features=slow)
    train(repository, "fruit")
    (tmp_path / "service.yaml").write_text("name: small\nslo: {latency_milliseconds: 20}\n")
    ran = command(repository, "loadtest", "fruit", "--seconds", "0.3")
    assert ran.returncode == 1, ran.stderr
    assert "does not keep the SLO" in ran.stdout
    evidence = read_load_evidence(repository)
    assert evidence is not None
    assert (evidence.replicas, evidence.models[0].broke_at) == (None, 1)


def test_nobody_at_the_url_is_said(trained: Repository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ran = command(trained, "loadtest", "--url", f"http://127.0.0.1:{port}", "--seconds", "0.2")
    assert ran.returncode == 2
    assert "answers no request to fruit" in ran.stderr


def test_evidence_that_is_something_else_is_refused(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    assert read_load_evidence(repository) is None
    load_evidence_file(repository).parent.mkdir(parents=True)
    load_evidence_file(repository).write_text("{}")
    with pytest.raises(LoadEvidenceError, match="Run `loadtest`"):
        read_load_evidence(repository)
