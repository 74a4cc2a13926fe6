"""Requests that come whole are answered without ASGI: nobody may notice, whatever comes beside."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from model_service.serving.server import _config
from model_service.settings import Settings
from tests.platform.serving.server_process import ServerProcess, stub_server

PREDICT = "/v1/models/sums/predict"
SLOW = "/v1/models/sums/versions/1/predict"
"""Version 1 is asked in a thread, so that its answer comes after those that came later."""
OF_THE_MOMENT = re.compile(rb"\r\ndate: [^\r]+|[0-9a-f]{12}-[0-9a-f]+")
PATIENCE = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service that nobody stops; `idle_seconds` is how long it keeps a connection."""
    with stub_server(tmp_path_factory.mktemp("stub"), idle_seconds=1) as running:
        yield running
        assert not [line for line in running.log if "exception.stacktrace" in line]


def post(path: str = PREDICT, *, a: Any = 1, more: str = "", **fields: Any) -> bytes:
    row = {"a": a, "b": 0.3, "how": "well", **fields}
    body = msgspec.json.encode({"rows": [row]})
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def connect(server: ServerProcess) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def bodies(connection: socket.socket, count: int) -> list[bytes]:
    """Return the bodies of the next answers."""
    found, stream = [], connection.makefile("rb")
    for _ in range(count):
        length = 0
        while (line := stream.readline()) != b"\r\n":
            assert line, "the service ended the connection"
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        found.append(stream.read(length))
    return found


def said(body: bytes) -> object:
    """Return what tells one answer of these tests from another."""
    decoded = msgspec.json.decode(body)
    return decoded["rows"][0]["value"] if "rows" in decoded else decoded["status"]


def test_answers_come_in_the_order_of_their_requests(server: ServerProcess) -> None:
    """Those that only ASGI can answer stand between those that came whole, and slow before fast."""
    slow = post(SLOW, a=10, b=0.3, how="sleep")
    mixed = [
        *(slow, get("/livez"), post(a=2), slow, post(a=3), post(a=4)),
        *(post("/v1/models/none/predict"), post(a=5), get("/readyz"), slow, post(a="x"), post(a=6)),
    ]
    expected = [10.3, "live", 2.3, 10.3, 3.3, 4.3, 404, 5.3, "ready", 10.3, 422, 6.3]
    for together in (1, 3, 12):
        with connect(server) as connection:
            found: list[object] = []
            for start in range(0, 12, together):
                connection.sendall(b"".join(mixed[start : start + together]))
                if together < 12:
                    found += map(said, bodies(connection, together))
            found += map(said, bodies(connection, 12 - len(found)))
        assert found == expected


@pytest.mark.parametrize("request_bytes", [post(), post(a="x"), post("/v1/models/none/predict")])
def test_an_answer_is_the_same_however_its_request_is_cut(
    server: ServerProcess, request_bytes: bytes
) -> None:
    end = request_bytes.index(b"\r\n\r\n")
    closing = request_bytes.replace(b"Host: x", b"Host: x\r\nConnection: close")
    answers = set()
    for first in (len(request_bytes), end - 3, end + 4, end + 5, len(request_bytes) - 1):
        with connect(server) as connection:
            connection.sendall(request_bytes[:first])
            if first < len(request_bytes):
                threading.Event().wait(0.05)
                connection.sendall(request_bytes[first:])
            connection.sendall(closing)  # after it the service ends the connection
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        answers.add(OF_THE_MOMENT.sub(b"", received))
    assert len(answers) == 1, answers


def test_a_connection_is_kept_while_it_is_used_and_no_longer(server: ServerProcess) -> None:
    with connect(server) as connection:
        for _ in range(4):  # longer than it is kept, with a pause after each
            connection.sendall(post())
            assert said(bodies(connection, 1)[0]) == 1.3
            threading.Event().wait(0.4)
        connection.sendall(post(SLOW, b=1.4, how="sleep"))
        assert said(bodies(connection, 1)[0]) == 2.4
        assert connection.recv(1) == b""


def test_who_leaves_while_the_model_is_asked_harms_nobody(server: ServerProcess) -> None:
    for later in (b"", post(a=2), get("/livez"), b"\0\0\r\n\r\n"):
        with connect(server) as connection:
            connection.sendall(post(SLOW, how="sleep", b=0.3) + later)
        with connect(server) as connection:
            connection.sendall(post(SLOW, a=10))
            assert said(bodies(connection, 1)[0]) == 10.3


def test_a_service_that_stops_answers_what_is_under_way_and_says_that_it_ends(
    tmp_path: Path,
) -> None:
    with stub_server(tmp_path) as server, connect(server) as connection:
        connection.sendall(post(SLOW, a=10, b=1.0, how="sleep"))
        threading.Event().wait(0.3)
        server.process.terminate()
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b'"value":11.0' in received
        assert b"\r\nconnection: close\r\n" in received
        assert server.process.wait(PATIENCE) == 0
        assert not [line for line in server.log if "exceeded" in line["body"]]


def test_an_app_that_is_wrapped_is_asked_as_asgi_has_it() -> None:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None: ...

    async def able(scope: Any, receive: Any, send: Any) -> None: ...

    async def hands_over_whole(app: Any) -> bool:
        config = _config(Settings(name="x"), app)
        config.load()
        make: Any = config.http_protocol_class
        state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[])
        protocol = make(config=config, server_state=state, app_state={})
        return protocol._takes_whole is not None

    able.takes_whole = lambda _: True  # type: ignore[attr-defined]
    assert asyncio.run(hands_over_whole(able))
    assert not asyncio.run(hands_over_whole(wrapped))
