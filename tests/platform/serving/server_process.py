"""Starts a service as a process of its own on a free port, and ends it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import httpx
import msgspec

STUB = Path(__file__).with_name("stub_service.py")
ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "template" / "src"


class ServerProcess:
    """A running service: its address, its process, and what it wrote."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        sources = os.environ.get("PYTHONPATH", str(SOURCES))
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{sources}{os.pathsep}{ROOT}", **environment},
        )
        self.told: list[str] = []
        self.log: list[dict[str, Any]] = []
        self._told: Queue[str] = Queue()
        threading.Thread(target=self._read_told, daemon=True).start()
        threading.Thread(target=self._read_log, daemon=True).start()
        self.url = self._wait_for(r"http://127\.0\.0\.1:\d+")
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def _read_told(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line.decode())
            self._told.put(line.decode())

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(msgspec.json.decode(line))

    def _wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                found = re.search(pattern, self._told.get(timeout=0.1))
            except Empty:
                continue
            if found:
                return found.group()
        raise AssertionError(f"the server did not start: {self.told}")

    def wait_until_loaded(self) -> None:
        """Return once no version is loading any more."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            models = self.client.get("/v1/models").json()["models"]
            if all(v["state"] != "loading" for m in models for v in m["versions"]):
                return
            time.sleep(0.02)
        raise AssertionError("versions are loading for ever")

    def line_of(self, request_id: str) -> dict[str, Any]:
        """Return the log line of a request, waiting for it to be written."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for line in list(self.log):
                if line.get("request_id") == request_id:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no log line of {request_id}")

    def stop(self) -> int:
        """Ask the process to end and return its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def workers_of(server: ServerProcess) -> set[int]:
    """Return the worker processes of a service; on Linux only."""
    listed = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    workers = set()
    for pid in map(int, listed.split()):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"spawn_main" in command:
            workers.add(pid)
    return workers


@contextmanager
def real_server(
    repository: Path, *, before: Sequence[str] = (), wait: bool = True, **settings: str
) -> Iterator[ServerProcess]:
    """Serve a repository with its own command, `before` which another may stand.

    `settings` are variables of the environment, such as MODEL_SERVICE_SERVER__WORKERS.
    """
    given = {"MODEL_SERVICE_SERVER__PORT": "0", "MODEL_SERVICE_SERVER__DRAIN_SECONDS": "0"}
    command = [sys.executable, "-m", "model_service", "--repository", str(repository), "serve"]
    server = ServerProcess([*before, *command], **(given | settings))
    try:
        if wait:
            server.wait_until_loaded()
        yield server
    finally:
        server.stop()


@contextmanager
def stub_server(
    folder: Path, *, wait: bool = True, script: Path = STUB, **settings: Any
) -> Iterator[ServerProcess]:
    """Run `stub_service.py` over `folder`, and wait until it has loaded what it serves."""
    given = msgspec.json.encode(settings).decode()
    server = ServerProcess([sys.executable, str(script), str(folder), given])
    try:
        if wait:
            server.wait_until_loaded()
        yield server
    finally:
        server.stop()
