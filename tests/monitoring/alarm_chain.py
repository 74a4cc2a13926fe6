"""The whole chain of an alarm as real processes, from the service to a webhook."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from tests.debian import program
from tests.monitoring.watched_repository import MODEL, make_watched_repository
from tests.rendering import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WITHIN_SECONDS = 120.0
SERVICE_YAML = """\
name: small
server: {{port: {service}, drain_seconds: 0}}
monitoring:
  port: {monitor}
  seconds_between_runs: 1
  window_rows: 500
  window_seconds: 1
  prometheus: http://127.0.0.1:{prometheus}
  alertmanager: http://127.0.0.1:{alertmanager}
"""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WITHIN_SECONDS) -> Any:
    """Return what `condition` returns once that is true; the test fails if it never is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = condition()
        except (httpx.HTTPError, OSError):
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} seconds: {what}")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Webhook:
    """Receives what Alertmanager sends: (receiver, alert) pairs."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received.extend((body["receiver"], alert) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop to listen."""
        self._server.shutdown()
        self._server.server_close()


class Chain:
    """Everything that runs, and what can be asked of it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        names = ("service", "monitor", "prometheus", "alertmanager")
        self.ports = dict(zip(names, free_ports(4), strict=True))
        self.repository = make_watched_repository(
            folder / "service", SERVICE_YAML.format(**self.ports)
        )
        self.webhook = Webhook()
        stack.callback(self.webhook.close)
        self.client = stack.enter_context(httpx.Client(timeout=30, trust_env=False))
        self.logs: dict[str, Path] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, *arguments: str) -> list[str]:
        """Return the service's own command."""
        root = str(self.repository.root)
        return [sys.executable, "-m", "model_service", "--repository", root, *arguments]

    def start(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a process that ends with the test."""
        self.logs[name] = self.folder / f"{name}.log"
        log = self._stack.enter_context(self.logs[name].open("wb"))
        sources = str(ROOT / "template" / "src")
        started = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": sources}
        )
        self.processes[name] = started
        self._stack.callback(_end, started)
        return started

    def url(self, name: str, path: str) -> str:
        """Return an address of one of the processes."""
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def is_up(self, name: str, path: str) -> None:
        """Wait until a process answers."""
        wait_for(
            lambda: self.client.get(self.url(name, path)).status_code == 200,
            f"{name} answers\n{self.logs[name].read_text(errors='replace')[-3000:]}",
        )

    def send(self, rows: Sequence[dict[str, Any]], *, tell_truth: bool = False) -> None:
        """Let the service answer rows, and tell it what was true if it shall know."""
        asked = [{name: row[name] for name in row if name != "price"} for row in rows]
        path = f"/v1/models/{MODEL}/predict"
        answer = self.client.post(self.url("service", path), json={"rows": asked})
        assert answer.status_code == 200, answer.text
        if tell_truth:
            entries = [
                {"prediction_id": answered["prediction_id"], "value": row["price"]}
                for answered, row in zip(answer.json()["rows"], rows, strict=True)
            ]
            told = self.client.post(
                self.url("service", "/v1/ground-truth"), json={"ground_truth": entries}
            )
            assert told.status_code == 200, told.text

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the answer of Prometheus."""
        answer = self.client.get(
            self.url("prometheus", "/api/v1/query"), params={"query": expression}
        )
        body = answer.json()
        assert body["status"] == "success", body
        result: list[dict[str, Any]] = body["data"]["result"]
        return result

    def firing(self) -> set[tuple[str, str, str, str]]:
        """Return what fires now: (alert, model, version, feature)."""
        found = self.query('ALERTS{alertstate="firing"}')
        names = ("alertname", "model", "version", "feature")
        return {tuple(one["metric"].get(name, "") for name in names) for one in found}

    def wait_for_windows(self, count: int) -> None:
        """Wait until the monitor has judged so many windows."""
        from model_service.monitoring.memory import recall
        from model_service.prediction_log.store import open_store

        store = open_store("prediction_log", self.repository.root)
        wait_for(
            lambda: len(recall(store, MODEL, "1").windows) >= count, f"{count} windows are judged"
        )
        store.close()


@contextmanager
def running_chain(folder: Path) -> Iterator[Chain]:
    """Start everything, and end it again."""
    prometheus, alertmanager = program("prometheus"), program("prometheus-alertmanager")
    with ExitStack() as stack:
        chain = Chain(folder, stack)
        chain.start("service", chain.command("serve"))
        chain.start("monitor", chain.command("monitor"))
        chain.start("alertmanager", _alertmanager(chain, alertmanager))
        chain.start("prometheus", _prometheus(chain, prometheus))
        chain.is_up("service", "/readyz")
        chain.is_up("monitor", "/metrics")
        chain.is_up("alertmanager", "/-/ready")
        chain.is_up("prometheus", "/-/ready")
        yield chain


def _alertmanager(chain: Chain, program: str) -> list[str | Path]:
    """Use the configuration that services get, with this test's receiver and no waiting."""
    text = (ROOT / "template/monitoring/alertmanager.yaml.jinja").read_text(encoding="utf-8")
    text = text.replace("127.0.0.1:9999/{{ service_name }}", f"127.0.0.1:{chain.webhook.port}")
    text = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", text)
    path = chain.folder / "alertmanager.yaml"
    path.write_text(text, encoding="utf-8")
    return [
        program,
        f"--config.file={path}",
        f"--storage.path={chain.folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{chain.ports['alertmanager']}",
        "--cluster.listen-address=",
    ]


def _prometheus(chain: Chain, program: str) -> list[str | Path]:
    """Use the configuration and the rules that services get, with these ports and more often."""
    monitoring = ROOT / "template" / "monitoring"
    settings = yaml.safe_load((monitoring / "prometheus.yaml").read_text(encoding="utf-8"))
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(monitoring / "rules" / "*.yaml")]
    service, monitor = settings["scrape_configs"]
    service["static_configs"] = [{"targets": [f"127.0.0.1:{chain.ports['service']}"]}]
    monitor["static_configs"] = [{"targets": [f"127.0.0.1:{chain.ports['monitor']}"]}]
    target = f"127.0.0.1:{chain.ports['alertmanager']}"
    settings["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [target]}]}]
    path = chain.folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return [
        program,
        f"--config.file={path}",
        f"--storage.tsdb.path={chain.folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{chain.ports['prometheus']}",
        "--log.level=warn",
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
