"""A rendered service that nobody trained, and its stub as a process."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.platform.serving.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def copy_of(service: Path, folder: Path) -> Path:
    """Copy a service into `folder`, so that it may be changed and stops at once."""
    shutil.copytree(service, folder, ignore=shutil.ignore_patterns("prediction_log"))
    settings = folder / "service.yaml"
    text = settings.read_text(encoding="utf-8").replace("drain_seconds: 5", "drain_seconds: 0")
    settings.write_text(text, encoding="utf-8")
    return folder


@contextmanager
def serving_stub(service: Path) -> Iterator[ServerProcess]:
    """Run the stub of a service until the end of the block."""
    command = [sys.executable, "-m", "model_service", "--repository", str(service), "serve"]
    server = ServerProcess([*command, "--stub", "--port", "0"])
    try:
        server.wait_until_loaded()
        yield server
    finally:
        server.stop()
