"""A service that really runs, in a process of its own, to be asked what its callers ask."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from model_service.handoff.outcome import UnmetError

READY_SECONDS = 120
VERSION_STATE = "model_service_version_state"
JSON = {"content-type": "application/json"}


class Reply(msgspec.Struct, frozen=True):
    """What was answered; names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


class RunningService:
    """`serve` on a free port of this machine, until `stop`."""

    def __init__(
        self, root: Path, *arguments: str, settings: Mapping[str, str] | None = None
    ) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
        command = [sys.executable, "-m", "model_service", "--repository", str(root), "serve"]
        self._process = subprocess.Popen(  # noqa: S603
            [*command, "--host", "127.0.0.1", "--port", "0", "--workers", "1", *arguments],
            env=os.environ | dict(settings or {}),
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.port = self._wait_for_port()

    @property
    def pid(self) -> int:
        """The process, whose children may be workers."""
        return self._process.pid

    def ask(
        self,
        method: str,
        path: str,
        content: object = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> Reply:
        """Send one request; `content` is sent as JSON, bytes as they are.

        Raises:
            UnmetError: it is not answered.
        """
        body = content if isinstance(content, bytes | None) else msgspec.json.encode(content)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, JSON | dict(headers or {}))
            return _reply(connection)
        except (OSError, http.client.HTTPException) as error:
            raise UnmetError(f"{method} {path} is not answered: {error}") from None
        finally:
            connection.close()

    def ask_together(
        self, path: str, body: bytes, headers: Mapping[str, str], callers: int
    ) -> list[Reply]:
        """Let callers `POST` the same, all so that the last byte of each comes at one moment.

        Raises:
            UnmetError: one of them is not answered.
        """
        head = JSON | {"content-length": str(len(body))} | dict(headers)
        connections = [
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=60) for _ in range(callers)
        ]
        try:
            for connection in connections:
                connection.putrequest("POST", path)
                for name, value in head.items():
                    connection.putheader(name, value)
                connection.endheaders(body[:-1])
            for connection in connections:
                connection.send(body[-1:])
            return [_reply(connection) for connection in connections]
        except (OSError, http.client.HTTPException) as error:
            raise UnmetError(f"of a crowd, one is not answered: {error}") from None
        finally:
            for connection in connections:
                connection.close()

    def predict(self, model: str, rows: list[Any], version: str = "") -> Reply:
        """Ask a model, or one version of it."""
        middle = f"/versions/{version}" if version else ""
        return self.ask("POST", f"/v1/models/{model}{middle}/predict", {"rows": rows})

    def metrics(self) -> list[Sample]:
        """Return every sample of /metrics."""
        text = self.ask("GET", "/metrics").body.decode()
        return [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def wait_until_loaded(self) -> None:
        """Wait until no version is loading any more."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            # Asked of /metrics, which needs no key.
            states = [s.labels["state"] for s in self.metrics() if s.name == VERSION_STATE]
            if states and "loading" not in states:
                return
            time.sleep(0.02)
        raise UnmetError(f"the service does not become ready: {self._last_words()}")

    def output(self) -> str:
        """Return everything that it printed so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its log that are JSON."""
        lines = (line for line in self.output().splitlines() if line.startswith("{"))
        return [msgspec.json.decode(line) for line in lines]

    def tell_to_stop(self) -> None:
        """Send SIGTERM, as an orchestrator does."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float = 30) -> int:
        """End it if it has not ended, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return code

    def wait_for_end(self, seconds: float) -> int | None:
        """Return the exit code, or None if it still runs after so long."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            said = re.search(r"http://127\.0\.0\.1:(\d+)", self.output())
            if said:
                return int(said.group(1))
            time.sleep(0.02)
        self.stop()
        raise UnmetError(f"the service does not start: {self._last_words()}")

    def _last_words(self) -> str:
        return self.output().strip().rpartition("\n")[2][:300]


def _reply(connection: http.client.HTTPConnection) -> Reply:
    answer = connection.getresponse()
    named = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, named, answer.read())
