"""What Compose starts, as processes of this machine that read the same files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from tests.debian import program
from tests.deploy.client_suite import SUITE
from tests.deploy.plain_service import plain_service
from tests.deploy.ports import free_port
from tests.platform.postgresql_server import postgresql_server
from tests.platform.serving.server_process import SOURCES

SECONDS = 120


@contextmanager
def process(log: Path, *command: object) -> Iterator[None]:
    """Run a program until the block ends; it writes to a file."""
    with log.open("wb") as stream:
        running = subprocess.Popen(
            [str(word) for word in command], stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


def get(port: int, path: str, **query: str) -> Any:
    """The data of an answer of Prometheus or Alertmanager; None while it does not answer."""
    try:
        found = httpx.get(f"http://127.0.0.1:{port}{path}", params=query, trust_env=False)
    except httpx.TransportError:
        return None
    return found.json() if found.status_code == 200 else None


def until(found: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (value := found()):
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
    return value


def prometheus_configuration(compose: dict[str, Any], folder: Path, **ports: int) -> Path:
    """Prometheus as Compose starts it, with the addresses of this machine and less patience."""
    text = compose["configs"]["prometheus"]["content"]
    known = {"service": 8080, "monitor": 9108, "alertmanager": 9093}
    for name, port in known.items():
        assert text.count(f"{name}:{port}") == 1
        text = text.replace(f"{name}:{port}", f"127.0.0.1:{ports.get(name, 1)}")
    assert text.count("15s") == 2
    path = folder / "prometheus.yml"
    path.write_text(text.replace("15s", "1s"), encoding="utf-8")
    return path


def test_the_set_of_compose_works_together(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained / "deploy/compose/compose.yaml"
    compose = yaml.safe_load(path.read_text(encoding="utf-8"))
    (variable,) = compose["services"]["service"]["environment"]
    with postgresql_server() as database:
        place = database.new_log()
        monkeypatch.setenv(variable, place)
        ports = {name: free_port() for name in ("prometheus", "alertmanager", "monitor")}
        monkeypatch.setenv("MODEL_SERVICE_MONITORING__PORT", str(ports["monitor"]))
        monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", str(SOURCES)))
        with plain_service(trained) as service:
            (tmp_path / "rules").symlink_to(trained / "monitoring/rules")
            configuration = prometheus_configuration(
                compose,
                tmp_path,
                service=service.port,
                monitor=ports["monitor"],
                alertmanager=ports["alertmanager"],
            )
            logs = [tmp_path / f"{name}.log" for name in ports]
            command = [sys.executable, "-m", "model_service", "--repository", trained]
            monitor = process(logs[2], *command, *compose["services"]["monitor"]["command"])
            alertmanager = process(
                logs[1],
                program("prometheus-alertmanager"),
                f"--config.file={trained}/monitoring/alertmanager.yaml",
                f"--storage.path={tmp_path}/alertmanager",
                f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
                "--cluster.listen-address=",
            )
            prometheus = process(
                logs[0],
                program("prometheus"),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={tmp_path}/prometheus",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            )
            with alertmanager, prometheus, monitor:
                assert SUITE[0].ask(service.client)[1] == 200
                prometheus_sees_it_all(ports["prometheus"], logs[0])
                until(lambda: get(ports["alertmanager"], "/api/v2/status"), logs[1])
                until(lambda: logged_rows(place), logs[0])


def prometheus_sees_it_all(port: int, log: Path) -> None:
    def value_of(query: str) -> list[Any]:
        found = get(port, "/api/v1/query", query=query)
        return list(found["data"]["result"]) if found else []

    for job in ("model-service", "model-service-monitor"):
        until(partial(value_of, f'up{{job="{job}"}} == 1'), log)
    counted = 'model_service_predictions_total{model="penguin_species"} >= 1'
    until(lambda: value_of(counted), log)
    groups = get(port, "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 10
    assert not [rule for rule in rules if rule.get("lastError")]
    managers = get(port, "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    assert len(managers) == 1


def logged_rows(place: str) -> int:
    """How many rows the prediction log of PostgreSQL holds."""
    with psycopg.connect(place) as connection:
        try:
            found = connection.execute("SELECT count(*) FROM predictions").fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
    assert found is not None
    return int(found[0])
