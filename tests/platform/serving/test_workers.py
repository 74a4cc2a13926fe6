"""Several workers are one service: numbers that add up, one traffic.yaml, and deaths that cost
nothing."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from model_service.registry.traffic import promote
from model_service.serving import shared_numbers
from model_service.serving.shared_numbers import SharedNumbers
from tests.platform.serving.server_process import SOURCES, ServerProcess, stub_server, workers_of

ROW = {"a": 1, "b": 2, "how": "well"}
SUMS = "/v1/models/sums/predict"
ANSWERED = 'model_service_predictions_total{model="sums",outcome="ok",version="2"}'
WORKERS = "model_service_workers"
SECONDS = 60.0

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds the workers in /proc: Linux only"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with stub_server(tmp_path, server={"port": 0, "workers": 2}) as running:
        wait_for(lambda: metrics(running)[WORKERS] == 2, "two workers")
        wait_for(lambda: len(scrapes(running)) == 2, "a scrape of each")
        yield running


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} seconds: {what}"
        time.sleep(0.02)


def once(server: ServerProcess, method: str, path: str, **content: object) -> httpx.Response:
    """Ask on a new connection, which any of the workers may take."""
    headers = {"connection": "close"}
    with httpx.Client(base_url=server.url, trust_env=False, timeout=SECONDS) as client:
        return client.request(method, path, headers=headers, **content)  # type: ignore[arg-type]


def ask(server: ServerProcess) -> str:
    """Ask for an answer; return which process gave it."""
    answer = once(server, "POST", SUMS, json={"rows": [ROW]})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"].partition("-")[0]


def samples_of(text: str) -> dict[str, float]:
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def metrics(server: ServerProcess) -> dict[str, float]:
    return samples_of(once(server, "GET", "/metrics").text)


def scrapes(server: ServerProcess, count: int = 60) -> dict[str, dict[str, float]]:
    """Scrape until every worker was asked; return what each says, by its process."""
    found: dict[str, dict[str, float]] = {}
    for _ in range(count):
        answer = once(server, "GET", "/metrics")
        found[answer.headers["x-request-id"].partition("-")[0]] = samples_of(answer.text)
        if len(found) == 2:
            break
    return found


def test_each_worker_tells_the_sum_of_all(server: ServerProcess) -> None:
    with ThreadPoolExecutor(8) as callers:
        asked = list(callers.map(lambda _: ask(server), range(200)))
    assert len(set(asked)) == 2, "both workers answered some"
    for told in scrapes(server).values():
        assert told[ANSWERED] == 200
        labels = 'model="sums",version="2"'
        assert told[f"model_service_prediction_duration_seconds_count{{{labels}}}"] == 200
        stage = f"model_service_stage_duration_seconds_count{{{labels.replace(',', ',stage=%s,')}}}"
        for name in ("read", "queue", "predict", "encode"):
            assert told[stage % f'"{name}"'] == 200
    statistics = once(server, "GET", "/v2/models/sums/versions/2/stats").json()
    assert statistics["model_stats"][0]["inference_count"] == 200


def test_a_worker_that_is_killed_is_replaced_and_its_numbers_are_counted_once(
    server: ServerProcess,
) -> None:
    answered = 0
    for _ in range(2):
        before = workers_of(server)
        assert len(before) == 2
        for _ in range(60):
            ask(server)
        answered += 60
        killed = before.pop()
        os.kill(killed, signal.SIGKILL)
        # Of what it had answered a moment ago nothing is lost, before it is replaced and after.
        wait_for(lambda: metrics(server)[WORKERS] == 1, "one worker fewer")
        assert metrics(server)[ANSWERED] == answered
        wait_for(lambda: len(workers_of(server) - {killed}) == 2, "another worker")  # noqa: B023
        wait_for(lambda: metrics(server)[WORKERS] == 2, "another worker that counts")
        wait_for(lambda: len(scrapes(server)) == 2, "a scrape of each")
        for told in scrapes(server).values():
            assert told[ANSWERED] == answered


def test_a_worker_that_dies_when_it_is_asked_for_a_sign_of_life_is_replaced_at_once(
    server: ServerProcess,
) -> None:
    silent = workers_of(server).pop()
    os.kill(silent, signal.SIGSTOP)
    time.sleep(1.5)  # the parent asks every half second, and waits 30 seconds for the answer
    os.kill(silent, signal.SIGKILL)
    died_at = time.monotonic()
    wait_for(lambda: len(workers_of(server) - {silent}) == 2, "another worker")
    assert time.monotonic() - died_at < 20


def test_workers_do_not_outlive_a_kill_of_the_process_that_started_them(
    server: ServerProcess,
) -> None:
    workers = workers_of(server)
    server.process.kill()
    server.process.wait(SECONDS)

    def port_is_free() -> bool:
        with socket.socket() as another:
            return another.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED

    try:
        wait_for(port_is_free, "a port for the next start")
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def test_hooks_that_no_worker_can_load_end_the_start_instead_of_starting_it_for_ever(
    tmp_path: Path,
) -> None:
    (tmp_path / "hooks.py").write_text("import nothing_of_that_name")
    with stub_server(tmp_path, wait=False, server={"port": 0, "workers": 2}) as server:
        assert server.process.wait(SECONDS) != 0
        wait_for(lambda: "cannot be imported: Module" in server.told[-1], "the reason, told last")


def test_every_worker_follows_traffic(server: ServerProcess, tmp_path: Path) -> None:
    promote(tmp_path / "traffic.yaml", "sums", "3", by="anna")
    seen: dict[str, str] = {}

    def all_follow() -> bool:
        answer = once(server, "POST", SUMS, json={"rows": [ROW]})
        assert (
            answer.json()["rows"][0]["value"] == {"2": 3.0, "3": 1003.0}[answer.json()["version"]]
        )
        seen[answer.headers["x-request-id"].partition("-")[0]] = answer.json()["version"]
        return list(seen.values()) == ["3", "3"]

    wait_for(all_follow, "both workers answer with version 3")


def test_stopping_loses_nothing_for_callers_who_look_at_readiness(tmp_path: Path) -> None:
    """Callers with connections of their own leave at the first 503 of /readyz, as a load balancer
    would make them; until then, and for a moment after it, every request is answered."""
    settings = {"port": 0, "workers": 2, "drain_seconds": 3}
    with stub_server(tmp_path, server=settings) as server:
        wait_for(lambda: metrics(server)[WORKERS] == 2, "two workers")
        wait_for(lambda: once(server, "GET", "/readyz").status_code == 200, "ready")
        left = 0.0

        def call(_: int) -> list[int]:
            seen = []
            with httpx.Client(base_url=server.url, trust_env=False, timeout=SECONDS) as client:
                while not left or time.monotonic() < left + 0.3:
                    seen.append(client.post(SUMS, json={"rows": [ROW]}).status_code)
            return seen

        with ThreadPoolExecutor(6) as pool:
            calling = [pool.submit(call, number) for number in range(6)]
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: once(server, "GET", "/readyz").status_code == 503, "not ready")
            left = time.monotonic()
            answers = [status for caller in calling for status in caller.result()]
        assert len(answers) > 100
        assert set(answers) == {200}
        assert server.process.wait(SECONDS) == 0


def test_a_slot_that_is_full_counts_on_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_numbers, "SLOT_BYTES", 4096)
    numbers = SharedNumbers(tmp_path)
    rows = [numbers.row(("family", (str(number),)), 100) for number in range(7)]
    for row in rows:
        row[99] += 1.5
    assert [numbers.row(("family", (str(number),)), 100)[99] for number in range(7)] == [1.5] * 7
    assert len(numbers.totals()) == 5
    assert numbers.workers() == 1


COUNT_AND_DIE = """
import os, sys
from pathlib import Path
from model_service.serving.shared_numbers import SharedNumbers
SharedNumbers(Path(sys.argv[1])).row(("a", ("x",)), 2)[1] = 3
(Path(sys.argv[1]) / "0.rows").open("ab").write(b'[["b",["half')
os.kill(os.getpid(), 9)
"""


def test_a_slot_is_taken_over_as_it_was_left(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNT_AND_DIE, str(tmp_path)]
    died = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCES)}, check=False)
    assert died.returncode == -signal.SIGKILL
    second = SharedNumbers(tmp_path)
    assert second.totals() == {("a", ("x",)): [0, 3]}
    third = SharedNumbers(tmp_path)
    assert second.workers() == third.workers() == 2
    second.row(("b", ()), 1)[0] = 5
    second.row(("a", ("x",)), 2)[1] += 1
    third.row(("a", ("x",)), 2)[1] += 4
    assert third.totals() == {("a", ("x",)): [0, 8], ("b", ()): [5]}
