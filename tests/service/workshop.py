"""A rendered service with its own environment, in which the commands of its README are run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.service.interpreters import interpreter

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_COMMAND_SECONDS = 300


@dataclass(frozen=True)
class Workshop:
    """A service whose commands are run as a person in its folder would type them."""

    folder: Path
    python: str

    def try_(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it; what it printed is in `stdout`."""
        environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling every time takes seconds
        return subprocess.run(
            [*command],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_COMMAND_SECONDS,
            check=False,
        )

    def run(self, *command: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        ran = self.try_(*command)
        if ran.returncode:
            pytest.fail(f"`{' '.join(command)}` ended with {ran.returncode}:\n{ran.stdout[-6000:]}")
        return ran.stdout

    def make(self, *targets: str) -> str:
        """`make` these targets, which must succeed."""
        return self.run("make", "--no-print-directory", *targets, f"PYTHON={self.python}")


def open_workshop(folder: Path, version: str) -> Workshop:
    """Install the service in `folder` on Python `version`; the test is skipped without that one."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    workshop = Workshop(folder, python)
    workshop.make("setup")
    return workshop
