"""Ray Serve runs the same service: the same answers, and none that is wrong when a node dies."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.client_suite import MASS, ROW, SUITE, Answer, answers_of, assert_same
from tests.deploy.plain_service import plain_service
from tests.deploy.ports import free_port
from tests.deploy.ray_serve import RayCluster, cpu_seconds_of, ray_cluster
from tests.rendering import TOOLS

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]
SECONDS = 180
REQUESTS = 2000
CALLERS = 4


@pytest.fixture(scope="module")
def environment(service: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documentation says to install."""
    folder = tmp_path_factory.mktemp("ray") / "venv"
    subprocess.run(
        [TOOLS / "uv", "venv", "--quiet", "--python", sys.executable, folder], check=True
    )
    needed = ["--requirement", "deploy/ray/requirements.txt"]
    needed += ["--requirement", "pyproject.toml", "--constraint", "config/constraints.txt"]
    install: list[str | Path] = [
        TOOLS / "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        folder / "bin/python",
    ]
    subprocess.run([*install, *needed], cwd=service, check=True)
    return folder


def test_ray_answers_the_same_also_while_a_node_dies(
    environment: Path,
    trained: Path,
    recorded: list[Answer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Path(shutil.copytree(trained, tmp_path / "acme-models"))
    url = f"http://127.0.0.1:{configure(service)}"
    log = tmp_path / "ray.log"
    with plain_service(service) as plain, ray_cluster(environment, service, log) as ray:
        wait_until_ready(url, log)
        wait_for_replicas(ray, 2)
        assert_same(answers_of(url), recorded)
        plainly = cost_of(plain.url, lambda: cpu_seconds_of(plain.process.pid))
        by_ray = cost_of(url, ray.cpu_seconds)
        statuses = answers_while_a_node_dies(ray, url, SUITE[0].ask(plain.client))
        assert_same(answers_of(url), recorded)
    with capsys.disabled():
        print(f"\nplain process: {plainly}\nRay Serve: {by_ray}\nwhile a node died: {statuses}")


def configure(service: Path) -> int:
    """Let Ray listen once, although both nodes are here, on a port that is free; return it."""
    path = service / "deploy/ray/serve.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["proxy_location"] = "HeadOnly"
    config["http_options"]["port"] = port = free_port()
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return port


def wait_until_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False, timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.5)


def cost_of(url: str, cpu_seconds: Callable[[], float]) -> str:
    """What a request costs, asked one after the other: the caller's time, and the CPU's beyond what
    the processes use while nobody asks."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    body = json.dumps({"rows": [ROW]})
    for _ in range(100):
        ask_once(connection, body)
    idle = rate_of(cpu_seconds, lambda: time.sleep(5))
    times: list[float] = []
    busy = rate_of(cpu_seconds, lambda: times.extend(ask_many(connection, body)))
    elapsed = sum(times)
    each = (busy - idle) * elapsed / REQUESTS
    times.sort()
    middle, slow = times[REQUESTS // 2], times[REQUESTS * 99 // 100]
    return (
        f"{each * 1e3:.2f} ms CPU, median {middle * 1e3:.1f} ms, 99% in {slow * 1e3:.1f} ms; "
        f"idle {idle:.1%} of a core"
    )


def rate_of(cpu_seconds: Callable[[], float], work: Callable[[], object]) -> float:
    """CPU seconds a second while `work` is done."""
    before, started_at = cpu_seconds(), time.perf_counter()
    work()
    return (cpu_seconds() - before) / (time.perf_counter() - started_at)


def ask_many(connection: http.client.HTTPConnection, body: str) -> list[float]:
    return [ask_once(connection, body) for _ in range(REQUESTS)]


def ask_once(connection: http.client.HTTPConnection, body: str) -> float:
    started_at = time.perf_counter()
    connection.request("POST", f"{MASS}/predict", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    return time.perf_counter() - started_at


def answers_while_a_node_dies(ray: RayCluster, url: str, expected: Answer) -> dict[int | str, int]:
    """Ask without a pause, kill a node, and go on until another one has taken its place.

    Who was asking a replica on it may get an error, never another answer.
    """
    seen: Counter[int | str] = Counter()
    wrong: list[Answer] = []
    stopping = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            while not stopping.is_set():
                try:
                    answer = SUITE[0].ask(client)
                except httpx.TransportError as error:
                    seen[type(error).__name__] += 1
                    continue
                seen[answer[1]] += 1
                if answer[1] == 200 and answer != expected:
                    wrong.append(answer)

    callers = [threading.Thread(target=ask) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        wait_for(seen, 500)
        ray.kill_node()
        assert len(ray.replicas()) == 1
        wait_for(seen, seen[200] + 2000)
        ray.start_node()
        wait_for_replicas(ray, 2)
        wait_for(seen, seen[200] + 500)
    finally:
        stopping.set()
        for caller in callers:
            caller.join()
    assert not wrong
    assert seen[200] >= 2500
    return dict(seen)


def wait_for_replicas(ray: RayCluster, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while len(ray.replicas()) < count:
        assert time.monotonic() < deadline, "a replica is missing"
        time.sleep(0.2)


def wait_for(seen: Counter[int | str], count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while seen[200] < count:
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
