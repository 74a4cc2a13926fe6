"""`handoff drill`: each fault is felt, its mending is felt as well, and who did it is kept."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING

import pytest

from model_service.handoff.check import check
from model_service.handoff.drill import DrillError, begin, drill_folder, end, read_drills
from model_service.handoff.drill_faults import FAULTS
from model_service.handoff.items import items_of
from model_service.handoff.subject import Subject
from model_service.repository import Repository
from tests.handoff import handed_over as service
from tests.handoff.handed_over import TODAY

if TYPE_CHECKING:
    from pathlib import Path

BEGAN = dt.datetime(2026, 11, 2, 9, tzinfo=dt.UTC)
FELT = {
    "unseen-category": "must be one of",
    "renamed-field": "is not a feature of this model",
    "corrupt-artefact": "is not what was trained",
    "stale-model": "days old",
    "slow-feature": "ms, 100 are promised",
    "full-disk": "disk is full",
}


@pytest.fixture
def repository(handed_over: Path, tmp_path: Path) -> Repository:
    """A service of one's own in which nobody has drilled yet."""
    root = service.copy_of(handed_over, tmp_path / "service")
    (root / "handoff/drills.yaml").unlink()
    return Repository(root)


def mend(repository: Repository, fault: str) -> None:
    """Do in the copy what the runbook says."""
    copy = drill_folder(repository)
    if fault in ("unseen-category", "renamed-field"):
        callers = copy / "callers.json"
        text = callers.read_text(encoding="utf-8").replace("_v2", "")
        text = text.replace("a category that nobody has seen", "Dream")
        callers.write_text(text, encoding="utf-8")
    elif fault in ("corrupt-artefact", "stale-model"):
        shutil.rmtree(copy / "registry")
        shutil.copytree(repository.root / "registry", copy / "registry")
    elif fault == "slow-feature":
        code, _, error = service.command(copy, "rollback", "penguin_mass")
        assert code == 0, error
    else:
        (copy / "prediction_log/predictions.sqlite").unlink()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_felt_until_it_is_mended(repository: Repository, fault: str) -> None:
    before = (repository.root / "traffic.yaml").read_bytes()
    begun = begin(repository, fault, BEGAN)
    assert FELT[fault] in begun.symptom
    later = BEGAN + dt.timedelta(minutes=12)
    mend(repository, fault)
    done = end(repository, "Bob", "bob@example.invalid", "VersionFailed", later)
    assert read_drills(repository) == [done]
    assert (done.fault, done.minutes, done.section) == (fault, 12.0, "VersionFailed")
    assert not drill_folder(repository).exists()
    # The service itself was never touched.
    assert (repository.root / "traffic.yaml").read_bytes() == before


def test_a_drill_ends_only_when_it_is_solved_by_the_runbook(repository: Repository) -> None:
    with pytest.raises(DrillError, match="No drill is under way"):
        end(repository, "Bob", "bob@example.invalid", "VersionFailed", BEGAN)
    begin(repository, "corrupt-artefact", BEGAN)
    with pytest.raises(DrillError, match="not solved yet"):
        end(repository, "Bob", "bob@example.invalid", "VersionFailed", BEGAN)
    with pytest.raises(DrillError, match=r"git config user\.email"):
        end(repository, "Bob", "", "VersionFailed", BEGAN)
    with pytest.raises(DrillError, match="no section 'Nowhere'"):
        end(repository, "Bob", "bob@example.invalid", "Nowhere", BEGAN)
    with pytest.raises(DrillError, match="under way"):
        begin(repository, "full-disk", BEGAN)
    assert read_drills(repository) == []


def state(repository: Repository, today: dt.date) -> tuple[str, str]:
    with Subject(repository, today) as subject:
        (result,) = check(subject, items_of(["OPS-2"]), named=True)
    return result.state, result.line


def test_it_counts_if_somebody_else_did_it_within_90_days(repository: Repository) -> None:
    record = "- {fault: full-disk, began: %sT09:00:00+00:00, minutes: 12.0, solved_by: Bob, "
    record += "email: %s, section: RecordsDropped}\n"
    path = repository.root / "handoff/drills.yaml"
    assert state(repository, TODAY)[0] == "fail"
    path.write_text(record % (TODAY, "Tester@Example.invalid"), encoding="utf-8")
    found, line = state(repository, TODAY)
    assert found == "fail"
    assert "nobody but tester@example.invalid" in line
    path.write_text(record % (TODAY, "bob@example.invalid"), encoding="utf-8")
    assert state(repository, TODAY)[0] == "pass"
    assert state(repository, TODAY + dt.timedelta(days=90))[0] == "pass"
    assert state(repository, TODAY + dt.timedelta(days=91))[0] == "stale"
