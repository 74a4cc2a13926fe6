"""Stopping in two phases: not ready first, closed later, and no caller loses an answer."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.platform.serving.server_process import ServerProcess, stub_server, workers_of

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"a": 1, "b": 2, "how": "well"}
DRAIN_SECONDS = 2.0


def serving(workers: int) -> dict[str, object]:
    return {"port": 0, "workers": workers, "drain_seconds": DRAIN_SECONDS}


def ask(server: ServerProcess) -> int:
    """Ask on a new connection, as the client of a load balancer does."""
    headers = {"connection": "close"}
    path = f"{server.url}/v1/models/sums/predict"
    return httpx.post(path, json={"rows": [ROW]}, headers=headers, trust_env=False).status_code


def ready(server: ServerProcess, path: str = "/readyz") -> int:
    return httpx.get(server.url + path, trust_env=False).status_code


@pytest.mark.parametrize(("workers", "tells_all"), [(1, False), (2, False), (2, True)])
def test_after_sigterm_it_is_not_ready_and_answers_until_callers_have_left(
    tmp_path: Path, workers: int, tells_all: bool
) -> None:
    """Some tell the whole group of processes, so that workers hear of it twice."""
    with stub_server(tmp_path, server=serving(workers)) as server:
        deadline = time.monotonic() + 60
        seen: set[str] = set()
        while len(seen) < workers:  # one that is starting would only die and be started again
            assert time.monotonic() < deadline
            answer = httpx.get(f"{server.url}/readyz", trust_env=False)
            if answer.status_code == 200:
                seen.add(answer.headers["x-request-id"].partition("-")[0])
        for process in workers_of(server) if tells_all else ():
            os.kill(process, signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        while ready(server) != 503:
            assert time.monotonic() < deadline
            assert ask(server) == 200
        if workers == 1:  # of several, another may not have heard of it yet
            assert ready(server, "/v2/health/ready") == 503
        # What a load balancer that looks at readiness once a second goes on sending.
        left_at = time.monotonic() + 0.5 * DRAIN_SECONDS
        while time.monotonic() < left_at:
            assert ask(server) == 200
        assert server.process.wait(60) == 0


def test_ctrl_c_does_not_wait_for_callers(tmp_path: Path) -> None:
    settings = {"port": 0, "drain_seconds": 600}
    with stub_server(tmp_path, server=settings) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(15) == 0


def test_a_second_sigterm_ends_the_waiting(tmp_path: Path) -> None:
    settings = {"port": 0, "drain_seconds": 600}
    with stub_server(tmp_path, server=settings) as server:
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while ready(server) != 503:
            assert time.monotonic() < deadline
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0


def test_only_the_models_that_are_named_are_served(tmp_path: Path) -> None:
    with stub_server(tmp_path, server={"port": 0, "models": ["kinds"]}) as server:
        assert [m["model"] for m in server.client.get("/v1/models").json()["models"]] == ["kinds"]
        assert ask(server) == 404
        assert ready(server) == 200
