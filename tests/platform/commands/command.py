"""Runs the service's command in a process of its own, with the code of the working tree."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.rendering import ROOT

if TYPE_CHECKING:
    from model_service.repository import Repository


def command(
    repository: Repository, *arguments: str, columns: int = 200
) -> subprocess.CompletedProcess[str]:
    """Run the command on `repository`, and return how it ended and what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "model_service", "--repository", str(repository.root), *arguments],
        env={**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(ROOT / "template/src")},
        capture_output=True,
        text=True,
        check=False,
    )
