"""The service as a plain process: what every other way to run it is compared with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.platform.serving.server_process import ServerProcess


@contextmanager
def plain_service(repository: Path, *options: str) -> Iterator[ServerProcess]:
    """Serve a repository on a free port until the block ends."""
    command = [sys.executable, "-m", "model_service", "--repository", str(repository), "serve"]
    server = ServerProcess([*command, "--port", "0", *options])
    try:
        server.wait_until_loaded()
        yield server
    finally:
        server.process.kill()
        server.process.wait()
