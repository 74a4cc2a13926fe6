"""What goes wrong around a running service, each with the outcome that docs/faults.md states."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_service.registry.traffic import promote
from tests.platform.serving.server_process import SOURCES, ServerProcess, real_server, stub_server
from tests.rendering import tree

MAKE = Path(__file__).with_name("onnx_versions.py")
LIMIT: dict[str, Any] = {"MODEL_SERVICE_LIMITS__SECONDS_PER_REQUEST": "1"}
ROW = {"a": 1.5, "b": 2.0}
RAISES, NAN, SHAPE, HANGS = 661.0, 662.0, 663.0, 664.0
SECONDS = 60.0
# Root may read everything; without these capabilities it may not, as nobody else may.
UNPRIVILEGED = (
    *("setpriv", "--bounding-set", "-dac_override,-dac_read_search"),
    *("--inh-caps", "-dac_override,-dac_read_search"),
)
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two versions of `adds`, and one each of `moody` and `sums`."""
    folder = tmp_path_factory.mktemp("real")
    publish(folder, "adds", "adds", "moody", "sums")
    promote(folder / "traffic.yaml", "adds", "1", by="anna")
    return folder


@pytest.fixture
def repository(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "repository"))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} seconds: {what}"
        time.sleep(0.05)


def ask(server: ServerProcess, model: str, *rows: dict[str, Any]) -> httpx.Response:
    given = list(rows) or [ROW]
    return server.client.post(f"/v1/models/{model}/predict", json={"rows": given})


def version_of(server: ServerProcess, model: str = "adds") -> str:
    answer = ask(server, model)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"][0]["value"] == 3.5
    return str(answer.json()["version"])


def state_of(server: ServerProcess, version: str, model: str = "adds") -> dict[str, Any]:
    versions = server.client.get(f"/v1/models/{model}").json()["versions"]
    found: dict[str, Any] = {each["version"]: each for each in versions}
    return dict(found.get(version, {}))


def flip(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def halve(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [flip, halve, nothing])
def test_files_that_are_damaged_while_they_are_served_change_no_answer(
    repository: Path, damage: Callable[[bytes], bytes]
) -> None:
    traffic = repository / "traffic.yaml"
    with real_server(repository) as server:
        for path in sorted((repository / "registry/adds/1").iterdir()):
            path.chmod(0o644)
            path.write_bytes(damage(path.read_bytes()))
            assert version_of(server) == "1"
        # Once it was given up it does not come back, and what answers goes on.
        promote(traffic, "adds", "2", by="anna")
        wait_for(lambda: version_of(server) == "2", "the sound version")
        promote(traffic, "adds", "1", by="anna")
        wait_for(lambda: state_of(server, "1").get("state") == "failed", "the refusal")
        assert version_of(server) == "2"
        assert "adds" in str(server.client.get("/v1/models/adds").json()["reason"])
        assert server.client.get("/readyz").status_code == 200


def unprivileged() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (Debian: util-linux) is not here, and root may read everything")
    return UNPRIVILEGED


def test_a_registry_that_cannot_be_read_changes_no_answer_and_is_looked_at_again(
    repository: Path,
) -> None:
    registry, traffic = repository / "registry", repository / "traffic.yaml"
    with real_server(repository, before=unprivileged()) as server:
        registry.chmod(0)
        promote(traffic, "adds", "2", by="anna")
        wait_for(lambda: state_of(server, "2").get("state") == "failed", "the refusal")
        assert "cannot be read" in state_of(server, "2")["reason"]
        assert (version_of(server), version_of(server, "sums")) == ("1", "1")
        assert server.client.get("/readyz").status_code == 200
        registry.chmod(0o755)
        wait_for(lambda: version_of(server) == "2", "the version, now that it can be read")
        told = [line for line in server.log if line["body"].startswith("version failed to load")]
        assert len(told) == 1, "told once, not at each look"


def test_a_registry_that_comes_late_is_waited_for(repository: Path) -> None:
    elsewhere = repository.parent / "elsewhere"
    (repository / "registry").rename(elsewhere)
    with real_server(repository) as server:
        ready = server.client.get("/readyz")
        assert (ready.status_code, ask(server, "adds").status_code) == (503, 503)
        assert server.client.get("/livez").status_code == 200
        elsewhere.rename(repository / "registry")
        wait_for(lambda: server.client.get("/readyz").status_code == 200, "readiness")
        assert version_of(server) == "1"


def test_a_version_that_is_still_being_copied_is_served_once_it_is_whole(repository: Path) -> None:
    model = repository / "registry/adds/2/model.onnx"
    whole = model.read_bytes()
    model.chmod(0o644)
    model.write_bytes(halve(whole))
    with real_server(repository) as server:
        promote(repository / "traffic.yaml", "adds", "2", by="anna")
        wait_for(lambda: state_of(server, "2").get("state") == "failed", "the refusal")
        assert version_of(server) == "1"
        model.write_bytes(whole)
        wait_for(lambda: version_of(server) == "2", "the version, now that it is whole")
        told = [line for line in server.log if line["body"].startswith("version failed to load")]
        assert len(told) == 1, "told once, not at each look"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full: Linux only")
def test_a_full_disk_for_what_it_says_and_logs_costs_no_answer(repository: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "model_service", "--repository", str(repository), "serve"]
    sources = {"PYTHONPATH": os.environ.get("PYTHONPATH", str(SOURCES))}
    given = {**os.environ, **sources, "MODEL_SERVICE_SERVER__DRAIN_SECONDS": "0"}
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen([*command, "--port", port], stdout=full, stderr=full, env=given)
    url = f"http://127.0.0.1:{port}"

    def counts_lines() -> bool:
        assert process.poll() is None
        try:
            assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
        told = httpx.get(f"{url}/metrics", trust_env=False).text
        return bool(re.search(r"^model_service_log_lines_dropped_total [1-9]", told, re.MULTILINE))

    try:
        wait_for(counts_lines, "lines that are dropped and counted")
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0


def publish(repository: Path, *models: str) -> None:
    command = [sys.executable, str(MAKE), str(repository), *models]
    sources = {"PYTHONPATH": os.environ.get("PYTHONPATH", str(SOURCES))}
    subprocess.run(command, check=True, env={**os.environ, **sources})


def test_a_version_that_ends_its_process_while_it_is_loaded_stays_out(repository: Path) -> None:
    publish(repository, "stuck")
    with real_server(repository, HELD_BY="exit") as server:
        state = state_of(server, "1", "stuck")
        assert (state["state"], state["reason"]) == ("failed", "SystemExit: 3")
        assert ask(server, "sums").status_code == 200


def test_a_version_that_never_ends_loading_holds_up_no_other_and_no_stopping(
    repository: Path, tmp_path: Path
) -> None:
    publish(repository, "stuck", "stuck")
    traffic, held = repository / "traffic.yaml", tmp_path / "held"
    promote(traffic, "stuck", "1", by="anna")
    held.touch()
    with real_server(repository, wait=False, HELD_BY=str(held)) as server:
        wait_for(lambda: ask(server, "sums").status_code == 200, "the model that is loaded last")
        state = state_of(server, "1", "stuck")
        assert (state["state"], "is still loading" in state["reason"]) == ("loading", True)
        assert server.client.get("/readyz").status_code == 503
        promote(traffic, "adds", "2", by="anna")
        wait_for(lambda: version_of(server) == "2", "a change while one is loading")
        held.unlink()
        wait_for(lambda: server.client.get("/readyz").status_code == 200, "readiness")
        held.touch()
        promote(traffic, "stuck", "2", by="anna")
        wait_for(lambda: state_of(server, "2", "stuck")["state"] == "loading", "the next one")
        assert version_of(server, "stuck") == "1"
        server.process.terminate()
        assert server.process.wait(SECONDS) == 0


def test_kill_9_in_the_middle_of_a_reload_costs_nothing_but_a_start(repository: Path) -> None:
    before = tree(repository / "registry")
    chance = random.Random(3)  # noqa: S311 - the same moments in every run
    for _ in range(3):
        for version in ("2", "1"):
            promote(repository / "traffic.yaml", "adds", version, by="anna")
        with real_server(repository) as server:
            promote(repository / "traffic.yaml", "adds", "2", by="anna")
            time.sleep(chance.uniform(0.2, 0.6))  # it looks twice, 0.2 seconds apart, then loads
            server.process.kill()
            server.process.wait(SECONDS)
        with real_server(repository) as server:
            assert server.client.get("/readyz").status_code == 200
            assert version_of(server) == "2"
    assert tree(repository / "registry") == before
    left = {path.name for path in repository.iterdir()}
    assert left <= {"models", "prediction_log", "registry", "service.yaml", "traffic.yaml"}


def test_rows_for_which_a_model_fails_fail_alone(repository: Path) -> None:
    with real_server(repository) as server:
        rows = [{**ROW, "a": a} for a in (1.5, RAISES, 2.5, NAN, 3.5, SHAPE, 4.5)]
        answered = ask(server, "moody", *rows).json()["rows"]
        assert [row.get("value") for row in answered] == [3.5, None, 4.5, None, 5.5, None, 6.5]
        for bad in (RAISES, NAN, SHAPE):
            alone = ask(server, "moody", {**ROW, "a": bad})
            assert alone.status_code == 500
            assert alone.json()["type"] == "/docs#problem-model-failed"
        assert version_of(server, "moody") == "1"
        failed = "prediction failed"
        wait_for(lambda: sum(x["body"].startswith(failed) for x in server.log) >= 6, "log lines")
        assert "4711" not in str(server.log)


def rows_of(how: str, b: float) -> dict[str, Any]:
    return {"rows": [{"a": 1, "b": b, "how": how}]}


def tensors_of(how: str, b: float) -> dict[str, Any]:
    given = {"a": ("FP64", 1), "b": ("FP64", b), "how": ("BYTES", how)}
    inputs = [
        {"name": name, "shape": [1], "datatype": datatype, "data": [value]}
        for name, (datatype, value) in given.items()
    ]
    return {"inputs": inputs}


@pytest.mark.parametrize(
    ("body_of", "path", "told"),
    [
        (rows_of, "/v1/models/sums/versions/1/predict", "type"),
        (tensors_of, "/v2/models/sums/versions/1/infer", "error"),
    ],
)
def test_a_model_that_never_returns_fails_its_own_callers_only(
    tmp_path: Path, body_of: Callable[[str, float], dict[str, Any]], path: str, told: str
) -> None:
    limits = {"seconds_per_request": 1.0}
    with stub_server(tmp_path, limits=limits) as server:
        late = server.client.post(path, json=body_of("sleep", 3600.0))
        assert (late.status_code, told in late.json()) == (504, True)
        started = time.monotonic()
        answer = server.client.post(path, json=body_of("well", 2))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert told in answer.json()
        assert time.monotonic() - started < 1.0, "nobody waits for what was given up"
        for other in ("/v1/models/sums/predict", "/v1/models/kinds/predict"):
            assert server.client.post(other, json=rows_of("well", 2)).status_code == 200
        assert server.client.get("/livez").status_code == 200
        server.process.terminate()
        assert server.process.wait(SECONDS) == 0


def test_code_that_holds_the_event_loop_for_ever_ends_the_process_which_says_where(
    repository: Path,
) -> None:
    with real_server(repository, **LIMIT) as server:
        with pytest.raises(httpx.HTTPError):
            server.client.post(
                "/v1/models/moody/predict", json={"rows": [{**ROW, "a": HANGS}]}, timeout=SECONDS
            )
        assert server.process.wait(SECONDS) == 70
        wait_for(lambda: any("stuck" in line["body"] for line in server.log), "the line")
        (line,) = (line for line in server.log if "stuck" in line["body"])
        assert "moody/1/features.py" in line["exception.stacktrace"]


HOLD_THE_LOOP = """
import asyncio, sys, time
from model_service.serving.logs import LogWriter
from model_service.serving.loop_watch import LoopWatch

async def main():
    LoopWatch(LogWriter(sys.stdout.buffer, "acme"), 1.0).start()
    time.sleep(6)

asyncio.run(main())
"""


@pytest.mark.parametrize(("before", "code"), [("", 70), ("import pdb\n", 0)])
def test_who_steps_through_with_a_debugger_is_not_hurried(before: str, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-c", before + HOLD_THE_LOOP]
    assert subprocess.run(command, env=environment, check=False).returncode == code


def test_workers_that_start_slowly_are_waited_for(repository: Path, tmp_path: Path) -> None:
    """As where little of a processor is given to a container, or a disk is cold."""
    late = 'import sys, time\nif "spawn_main" in str(sys.orig_argv): time.sleep(7)\n'
    (tmp_path / "sitecustomize.py").write_text(late)
    places = (str(tmp_path), os.environ.get("PYTHONPATH", str(SOURCES)))
    settings = {"MODEL_SERVICE_SERVER__WORKERS": "2", "PYTHONPATH": os.pathsep.join(places)}
    with real_server(repository, wait=False, **settings) as server:

        def are_both_there() -> bool:
            try:
                return "model_service_workers 2.0" in server.client.get("/metrics").text
            except httpx.TransportError:
                return False

        wait_for(are_both_there, "two workers that answer")


def test_of_several_workers_one_that_hangs_is_replaced(repository: Path) -> None:
    with real_server(repository, MODEL_SERVICE_SERVER__WORKERS="2", **LIMIT) as server:
        path, hangs = "/v1/models/moody/predict", {"rows": [{**ROW, "a": HANGS}]}

        def hung() -> bool:
            try:  # the other worker may be loading still, and says so
                httpx.post(f"{server.url}{path}", json=hangs, timeout=SECONDS, trust_env=False)
            except httpx.HTTPError:
                return True
            return False

        wait_for(hung, "a worker that hangs and ends")

        def lively() -> bool:
            with httpx.Client(base_url=server.url, trust_env=False, timeout=SECONDS) as caller:
                return "model_service_workers 2.0" in caller.get("/metrics").text

        wait_for(lively, "another worker")
        with httpx.Client(base_url=server.url, trust_env=False, timeout=SECONDS) as caller:
            wait_for(lambda: caller.get("/readyz").status_code == 200, "readiness")


def test_more_connections_than_it_may_open_cost_nobody_who_is_connected(repository: Path) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit (Debian: util-linux) is not here")

    def ready() -> bool:
        try:
            asked = httpx.get(f"{server.url}/readyz", timeout=SECONDS, trust_env=False)
        except httpx.TransportError:
            return False
        return asked.status_code == 200

    few = ("prlimit", "--nofile=100:100")
    with real_server(repository, before=few, **LIMIT) as server, ExitStack() as stack:
        assert version_of(server) == "1"
        for _ in range(200):
            address = ("127.0.0.1", server.port)
            slow = stack.enter_context(socket.create_connection(address, timeout=SECONDS))
            slow.sendall(b"POST / HTTP/1.1\r\nX: ")
        assert version_of(server) == "1"
        wait_for(ready, "room for others, since slow callers are ended")


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """A file that says by how much a server's clock is wrong."""
    if not FAKETIME:
        assert os.environ.get("CI") != "true", "install the Debian package faketime"
        pytest.skip("faketime (the Debian package) is not here")
    path = tmp_path / "clock"
    path.write_text("+0")
    return path


def test_a_clock_that_jumps_breaks_no_answer_no_limit_and_no_duration(
    repository: Path, clock: Path
) -> None:
    settings: dict[str, Any] = {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    with real_server(repository, **settings, **LIMIT) as server:
        hours = []
        for number, wrong in enumerate(("+0", "-5h", "+3d")):
            clock.write_text(wrong)
            promote(repository / "traffic.yaml", "adds", str(1 + number % 2), by="anna")
            answer = server.client.post(
                "/v1/models/adds/predict", json={"rows": [ROW]}, headers={"x-request-id": wrong[1:]}
            )
            assert answer.json()["rows"][0]["value"] == 3.5
            line = server.line_of(wrong[1:])
            assert 0 < line["duration_ms"] < 10_000
            hours.append(time.mktime(time.strptime(line["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")))
            wait_for(lambda v=str(1 + number % 2): version_of(server) == v, "the change")  # type: ignore[misc]
            started = time.monotonic()
            late = server.client.post("/v1/models/adds/predict", content=late_body(clock))
            assert late.status_code == 408
            assert time.monotonic() - started < 10
            assert 900 < server.line_of(late.headers["x-request-id"])["duration_ms"] < 10_000
        assert -5.1 < (hours[1] - hours[0]) / 3600 < -4.9
        assert 71.9 < (hours[2] - hours[0]) / 3600 < 72.1
        for told in server.client.get("/metrics").text.splitlines():
            if "_seconds_sum" in told and not told.startswith("#"):
                assert 0 <= float(told.rpartition(" ")[2]) < 60, told


def late_body(clock: Path) -> Iterator[bytes]:
    """Yield a body that comes too late, while the clock jumps forth and back."""
    yield b"{"
    clock.write_text("+9d")
    time.sleep(0.8)
    clock.write_text("-9d")
    time.sleep(0.7)
    yield b"}"
