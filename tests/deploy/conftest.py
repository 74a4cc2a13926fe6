"""A service with everything that it may be deployed with, and trained versions."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deploy.client_suite import answers_of
from tests.deploy.plain_service import plain_service
from tests.rendering import ROOT, commit_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.client_suite import Answer
    from tests.rendering import Template

TARGETS = ("compose", "kubernetes", "kserve", "ray")


@pytest.fixture(scope="session")
def service(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered service. Shared: look at it, do not change it."""
    folder = tmp_path_factory.mktemp("deployed") / "acme-models"
    template.render(folder, deployment=TARGETS)
    commit_all(folder)
    return folder


@pytest.fixture(scope="session")
def trained(service: Path) -> Path:
    """The same service with its example models trained."""
    subprocess.run(
        [sys.executable, "-m", "model_service", "train", "--all"],
        cwd=service,
        env=os.environ | {"PYTHONPATH": str(ROOT / "template/src")},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return service


@pytest.fixture(scope="session")
def recorded(trained: Path) -> list[Answer]:
    """What the plain process answers to the whole suite: what every other way must answer."""
    with plain_service(trained) as plain:
        return answers_of(plain.url)
