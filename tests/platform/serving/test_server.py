"""The life of the process: what it says, when it is ready, how it ends."""

from __future__ import annotations

import gc
import os
import re
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from model_service.repository import Repository
from model_service.serving.app import set_aside_what_stays
from model_service.serving.server import ServeError, serve
from model_service.settings import Server, Settings
from tests.platform.serving.server_process import ServerProcess, stub_server

SLOW = {"a": 1, "b": 0.7, "how": "sleep"}
SLOW_PATH = "/v1/models/sums/versions/1/predict"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service that nobody stops."""
    with stub_server(tmp_path_factory.mktemp("stub")) as server:
        yield server


def test_a_broken_version_stays_out_and_the_others_serve(tmp_path: Path) -> None:
    with stub_server(tmp_path, broken=True) as server:
        broken = server.client.get("/v1/models/broken").json()
        assert (broken["state"], broken["versions"][0]["code"]) == ("failed", "digest_mismatch")
        assert "not the file that was trained" in broken["reason"]
        ready = server.client.get("/readyz")
        assert ready.status_code == 503
        assert "broken is failed" in ready.json()["detail"]
        answer = server.client.post(
            "/v1/models/sums/predict", json={"rows": [{"a": 1, "b": 2, "how": "well"}]}
        )
        assert answer.status_code == 200
        assert any("broken (version 1, champion) failed" in line for line in server.told)


def test_a_service_whose_champions_all_answer_is_ready(running: ServerProcess) -> None:
    assert running.client.get("/readyz").json()["status"] == "ready"
    assert running.client.get("/livez").status_code == 200


def test_the_banner_has_a_request_that_works(running: ServerProcess) -> None:
    deadline = time.monotonic() + 5
    while "curl" not in "".join(running.told) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.05)
    told = "".join(running.told)
    command = told[told.index("curl") :]
    answer = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
    assert b'"prediction_id"' in answer


def test_what_was_asked_before_the_end_is_answered(tmp_path: Path) -> None:
    with stub_server(tmp_path) as server:
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(server.client.post(SLOW_PATH, json={"rows": [SLOW]}))

        caller = threading.Thread(target=ask)
        caller.start()
        time.sleep(0.3)
        server.process.terminate()
        caller.join(10)
        assert answers[0].status_code == 200
        assert server.process.wait(10) == 0
        assert any("Shutting down" in line["body"] for line in server.log)


def test_a_slow_model_leaves_health_checks_fast(running: ServerProcess) -> None:
    caller = threading.Thread(target=lambda: running.client.post(SLOW_PATH, json={"rows": [SLOW]}))
    caller.start()
    time.sleep(0.15)
    started = time.perf_counter()
    assert running.client.get("/livez").status_code == 200
    assert time.perf_counter() - started < 0.3
    assert caller.is_alive()
    caller.join()


def test_several_workers_answer_on_one_port(tmp_path: Path) -> None:
    with stub_server(tmp_path, server={"port": 0, "workers": 2}) as server:
        prefixes: set[str] = set()
        deadline = time.monotonic() + 20
        while len(prefixes) < 2 and time.monotonic() < deadline:
            answer = server.client.get("/livez", headers={"connection": "close"})
            assert answer.status_code == 200
            prefixes.add(answer.headers["x-request-id"].partition("-")[0])
        assert len(prefixes) == 2


def settings_of(**server: Any) -> Settings:
    return Settings(name="acme", server=Server(port=0, **server))


def test_serving_nothing_says_what_to_run(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    with pytest.raises(ServeError, match="acme new NAME"):
        serve(settings_of(), repository)
    (tmp_path / "models" / "churn").mkdir(parents=True)
    (tmp_path / "models" / "churn" / "contract.yaml").touch()
    with pytest.raises(ServeError, match="acme train --all"):
        serve(settings_of(), repository)
    (tmp_path / "registry" / "churn" / "2").mkdir(parents=True)
    with pytest.raises(ServeError, match="acme promote churn 2"):
        serve(settings_of(), repository)


def test_a_port_that_is_taken_says_so(tmp_path: Path) -> None:
    (tmp_path / "traffic.yaml").write_text('models: {churn: {champion: "1"}}')
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(name="acme", server=Server(port=port))
        with pytest.raises(ServeError, match=f"127.0.0.1:{port}.*--port"):
            serve(settings, Repository(tmp_path))


def test_importing_the_app_does_no_work() -> None:
    code = (
        "import sys, threading; import model_service.serving.server\n"
        "assert threading.active_count() == 1\n"
        "heavy = {'pandas', 'sklearn', 'scipy', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


def test_a_server_process_that_ends_early_is_noticed() -> None:
    with pytest.raises(AssertionError, match="did not start"):
        ServerProcess([sys.executable, "-c", "pass"])


def test_an_answer_is_one_write_and_a_head_has_no_body(running: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        for _ in range(20):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).endswith(b'{"status":"live"}')
        connection.sendall(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).endswith(b"\r\n\r\n")
        connection.sendall(b"POST /v1/models/sums/predict HTTP/1.1\r\nHost: x\r\n")
        connection.sendall(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(b"{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def asked(a: int, version: str = "1.1", more: str = "") -> bytes:
    body = msgspec.json.encode({"rows": [{"a": a, "b": 2, "how": "well"}]})
    head = f"POST /v1/models/sums/predict HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}"
    return f"{head}\r\n{more}\r\n".encode() + body


def all_received(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_requests_in_one_packet_are_answered_in_their_order(running: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall(asked(1) + asked(10) + asked(100, more="Connection: close\r\n"))
        received = all_received(connection)
    values = [float(value) for value in re.findall(rb'"value":([0-9.]+)', received)]
    assert values == [3.0, 12.0, 102.0]
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert received.count(b"\r\ndate: ") == received.count(b"\r\nx-request-id: ") == 3


@pytest.mark.parametrize(
    "request_bytes",
    [asked(1, more="Connection: close\r\n"), asked(1, version="1.0")],
    ids=["close", "HTTP/1.0"],
)
def test_a_caller_who_wants_one_answer_sees_its_end(
    running: ServerProcess, request_bytes: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall(request_bytes)
        received = all_received(connection)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in received
    assert b'"value":3.0' in received


def test_a_flood_of_requests_in_few_packets_is_no_head_that_is_too_large(
    running: ServerProcess,
) -> None:
    flood = asked(1, more="Connection: Upgrade\r\nUpgrade: h2c\r\n") * 3000
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        received = pool.submit(all_received, connection)
        connection.sendall(flood + asked(2, more="Connection: close\r\n"))
    assert received.result().count(b"HTTP/1.1 200 OK\r\n") == 3001


@pytest.mark.parametrize("offered", ["h2c", "websocket"])
@pytest.mark.parametrize("packets", [1, 2])
def test_an_offer_of_another_protocol_is_declined_and_the_request_answered(
    running: ServerProcess, offered: str, packets: int
) -> None:
    upgrade = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offered}\r\n"
    sent = asked(1, more=upgrade) + asked(10, more=upgrade)
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    last = f"{upgrade}Connection: close\r\nContent-Length: {len(hidden)}\r\n\r\n".encode()
    sent += b"POST /v1/models/sums/predict HTTP/1.1\r\nHost: x\r\n" + last
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        if packets == 2:
            connection.sendall(sent)
            time.sleep(0.1)  # so that a body is read apart from its head
            sent = b""
        connection.sendall(sent + hidden)
        received = all_received(connection)
    assert [float(v) for v in re.findall(rb'"value":([0-9.]+)', received)] == [3.0, 12.0]
    statuses = re.findall(rb"HTTP/1.1 ([0-9]+)", received)
    assert statuses == [b"200", b"200", b"400"], "a body was read as a request"
    assert not [line for line in running.log if "WebSocket" in line["body"]]


def test_what_is_loaded_is_set_aside_until_it_is_gone() -> None:
    class Loaded:
        itself: Loaded

    loaded = Loaded()
    loaded.itself, alive = loaded, weakref.ref(loaded)
    before = gc.get_threshold()
    try:
        set_aside_what_stays()
        del loaded
        gc.collect()
        assert alive() is not None  # the collector did not look at it
        set_aside_what_stays()
        assert alive() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_the_objectives_are_exported_for_the_alert_rules(tmp_path: Path) -> None:
    slo = {"availability": 0.99, "latency_milliseconds": 40, "latency_share": 0.9}
    with stub_server(tmp_path, slo=slo) as server:
        row = {"a": 1, "b": 2, "how": "well"}
        assert server.client.post("/v1/models/sums/predict", json={"rows": [row]}).is_success
        lines = server.client.get("/metrics").text.splitlines()
    assert "model_service_slo_availability 0.99" in lines
    assert "model_service_slo_latency_share 0.9" in lines
    assert 'model_service_slo_latency_seconds{le="0.04"} 0.04' in lines
    assert "model_service_draining 0.0" in lines
    bucket = 'http_request_duration_seconds_bucket{le="0.04",method="POST"'
    assert any(bucket in line for line in lines)
