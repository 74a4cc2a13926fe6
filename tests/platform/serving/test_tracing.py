"""A span for each request where tracing is on; nothing at all where it is off."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from model_service.repository import Repository
from model_service.serving.app import create_app
from model_service.serving.tracing import Tracing
from model_service.settings import Settings
from tests.platform.serving.server_process import SOURCES, real_server

MAKE = Path(__file__).with_name("onnx_versions.py")
ROW = {"a": 1.5, "b": 2.0}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    subprocess.run(
        [sys.executable, str(MAKE), str(folder), "adds", "moody"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )
    return folder


def traced(repository: Path, *asked: tuple[str, str, Any, dict[str, str]]) -> Any:
    """Ask an app that is traced; return the spans and the log lines."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    written = io.BytesIO()

    async def scenario() -> None:
        app = create_app(
            Settings(name="acme"),
            Repository(repository),
            log_stream=written,
            tracing=Tracing(provider),
        )
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://acme") as client,
        ):
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            exporter.clear()
            for method, path, content, headers in asked:
                await client.request(method, path, json=content, headers=headers)

    asyncio.run(scenario())
    lines = [msgspec.json.decode(line) for line in written.getvalue().splitlines()]
    return exporter.get_finished_spans(), lines


def test_a_request_is_a_span_below_that_of_its_caller(repository: Path) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "traced-1"}
    path = "/v1/models/adds/predict"
    spans, lines = traced(repository, ("POST", path, {"rows": [ROW]}, headers))
    (span,) = spans
    assert span.name == "POST /v1/models/{model}/predict"
    assert span.kind == SpanKind.SERVER
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}/predict",
        "http.response.status_code": 200,
        "request_id": "traced-1",
        "ml.model.name": "adds",
        "ml.model.version": "1",
        "ml.model.alias": "champion",
        "ml.outcome": "ok",
        "ml.rows": 1,
    }
    (line,) = (line for line in lines if line.get("request_id") == "traced-1")
    assert (line["trace_id"], line["span_id"]) == (TRACE, f"{span.context.span_id:016x}")


def test_every_door_is_traced_and_each_request_alone(repository: Path) -> None:
    tensors = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in ROW.items()
    ]
    spans, lines = traced(
        repository,
        ("POST", "/v2/models/adds/infer", {"inputs": tensors}, {}),
        ("POST", "/v1/models/moody/predict", {"rows": [{**ROW, "a": 661}]}, {}),
        ("GET", "/v1/models", None, {}),
        ("GET", "/made/up", None, {}),
        ("GET", "/livez", None, {}),
    )
    assert [span.name for span in spans] == [
        "POST /v2/models/{model}/infer",
        "POST /v1/models/{model}/predict",
        "GET /v1/models",
        "GET unmatched",
    ]
    assert len({span.context.trace_id for span in spans}) == 4
    failed: ReadableSpan = spans[1]
    assert failed.status.status_code == StatusCode.ERROR
    assert [span.status.status_code for span in spans].count(StatusCode.ERROR) == 1
    assert {f"{span.context.trace_id:032x}" for span in spans} == {
        line["trace_id"] for line in lines if "trace_id" in line and line["http.route"] != "/readyz"
    }


class Collector(BaseHTTPRequestHandler):
    """Takes what an exporter sends."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The address of a collector, and what it received."""
    received: list[tuple[str, bytes]] = []
    handler = type("Handler", (Collector,), {"received": received})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


def test_a_running_service_sends_its_spans_by_otlp(
    repository: Path, collector: tuple[str, list[tuple[str, bytes]]]
) -> None:
    address, received = collector
    settings: dict[str, Any] = {
        "MODEL_SERVICE_TRACING": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with real_server(repository, **settings) as server:
        server.client.post("/v1/models/adds/predict", json={"rows": [ROW]})
        deadline = time.monotonic() + 60
        while not any(b"ml.model.version" in content for _, content in received):
            assert time.monotonic() < deadline, received
            time.sleep(0.05)
        server.client.get("/v1/models")
    # What was not sent yet is sent when the service stops.
    assert any(b"GET /v1/models" in content for _, content in received)
    assert {path for path, _ in received} == {"/v1/traces"}
    assert any(b"acme" in content for _, content in received)


def test_a_collector_that_is_away_delays_no_answer(repository: Path) -> None:
    settings: dict[str, Any] = {
        "MODEL_SERVICE_TRACING": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    with real_server(repository, **settings) as server:
        for _ in range(50):
            started = time.monotonic()
            answer = server.client.post("/v1/models/adds/predict", json={"rows": [ROW]})
            assert answer.status_code == 200
            assert time.monotonic() - started < 5


def test_tracing_that_is_off_is_not_imported() -> None:
    code = (
        "import sys; import model_service.serving.server\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


def test_tracing_without_its_extra_says_what_to_install(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError(name='opentelemetry')")
    command = [sys.executable, "-m", "model_service", "--repository", str(repository), "serve"]
    paths = os.pathsep.join([str(tmp_path), str(SOURCES)])
    environment = {**os.environ, "PYTHONPATH": paths, "MODEL_SERVICE_TRACING": "true"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "'.[tracing]'" in ran.stderr.replace("\n", " ")
