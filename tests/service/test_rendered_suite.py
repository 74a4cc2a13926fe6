"""A rendered service passes its own checks and its own tests, on every Python it promises."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.render.combinations import ALL_OFF, ALL_ON
from tests.rendering import ROOT, commit_all, git
from tests.service.workshop import Workshop, open_workshop
from tests.update.older_versions import OLDER, template_with_history
from tests.update.team_work import do_the_work_of_a_team

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rendering import Template


def assert_passes_its_own_suite(workshop: Workshop) -> None:
    """Every target that CI runs succeeds, and changes no file of the repository."""
    commit_all(workshop.folder)
    workshop.make("check")
    workshop.make("test")
    workshop.make("verify")
    # Training writes down which version answers: that is the one file that may differ.
    changed = git(workshop.folder, "status", "--porcelain").split()
    assert set(changed) <= {"M", "traffic.yaml"}


def test_a_service_with_every_default_passes_its_own_suite(
    template: Template, tmp_path: Path
) -> None:
    service = template.render(tmp_path / "acme-models")
    workshop = open_workshop(service, "3.11")
    assert_passes_its_own_suite(workshop)
    before = {path: path.read_bytes() for path in service.rglob("*.py")}
    workshop.make("format")
    assert {path: path.read_bytes() for path in before} == before


def test_a_service_with_every_option_on_passes_its_own_suite(
    template: Template, tmp_path: Path
) -> None:
    service = template.render(tmp_path / "acme-models", **ALL_ON)
    assert_passes_its_own_suite(open_workshop(service, "3.12"))


def test_a_service_without_models_fails_until_it_has_one(
    template: Template, tmp_path: Path
) -> None:
    service = template.render(tmp_path / "acme-models", **ALL_OFF)
    workshop = open_workshop(service, "3.13")
    commit_all(service)
    workshop.make("check")
    tested = workshop.try_("make", "test")
    assert tested.returncode != 0
    assert "no model" in tested.stdout.lower()
    assert "acme-models new" in tested.stdout

    shutil.copy(ROOT / "template/data/penguins.csv", service / "penguins.csv")
    workshop.run(
        ".venv/bin/acme-models",
        *["new", "penguins", "--data", "penguins.csv", "--target", "species"],
    )
    assert_passes_its_own_suite(workshop)


def test_an_updated_service_with_the_work_of_a_team_passes_its_own_suite(tmp_path: Path) -> None:
    history = template_with_history(tmp_path / "template", OLDER)
    service = history.render(tmp_path / "acme-models", version=OLDER)
    commit_all(service)
    do_the_work_of_a_team(service)
    commit_all(service)
    assert history.update(service) == []
    assert_passes_its_own_suite(open_workshop(service, "3.11"))


def test_a_python_that_is_too_old_is_named_before_anything_is_installed(
    template: Template, tmp_path: Path
) -> None:
    service = template.render(tmp_path / "acme-models", minimum_python="3.13")
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    ran = subprocess.run(
        ["make", "setup", f"PYTHON={old}"], cwd=service, capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0
    assert "needs Python 3.13 or later. Name one: make setup PYTHON=python3.13" in ran.stdout
    assert not (service / ".venv").exists()
