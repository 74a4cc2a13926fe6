"""Callers who are slow, leave early or send no HTTP: each is ended in time, and harms nobody."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.platform.serving.server_process import ServerProcess, stub_server

GOOD = {"a": 1.5, "b": 2, "how": "well"}
SUMS = "/v1/models/sums/predict"
INFER = "/v2/models/sums/infer"
SECONDS = 1.0
LIMITS = {"seconds_per_request": SECONDS, "body_bytes": 200_000}
PATIENCE = 60.0
HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("stub")
    with stub_server(folder, limits=LIMITS, idle_seconds=2, take_seconds=2.0) as running:
        yield running
        errors = (line for line in running.log if line["severity_text"] == "ERROR")
        wrong = [line for line in errors if "exception.stacktrace" in line]
        assert not wrong, wrong
        assert running.process.poll() is None


def connect(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def received(connection: socket.socket) -> bytes:
    """Return everything that is sent until the service ends the connection."""
    content = b""
    try:
        while chunk := connection.recv(65536):
            content += chunk
    except ConnectionResetError:
        pass
    return content


def drip(connection: socket.socket, content: bytes, seconds: float) -> bytes:
    """Send a byte every `seconds`, as long as the service listens; return what it answered."""
    answer = b""
    connection.settimeout(seconds)
    for byte in content:
        try:
            connection.sendall(bytes([byte]))
            got = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return answer
        answer += got
        if not got:
            return answer
    raise AssertionError("the service took every byte")


def is_open(connection: socket.socket) -> bool:
    """Return whether the service still has a connection, without reading from it."""
    try:
        connection.sendall(b"\r\n")
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def assert_answers(server: ServerProcess) -> None:
    answer = server.client.post(SUMS, json={"rows": [GOOD]})
    assert answer.json()["rows"][0]["value"] == 3.5


def test_a_head_of_one_byte_after_the_other_is_a_408(server: ServerProcess) -> None:
    with connect(server) as connection:
        started = time.monotonic()
        answer = drip(connection, HEAD % SUMS.encode() + b"X" * 1000, 0.1)
        assert 0.9 * SECONDS <= time.monotonic() - started < PATIENCE  # its clock is a coarse one
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408"), head
    assert json.loads(body)["type"] == "/docs#problem-request-timeout"


@pytest.mark.parametrize("path", [SUMS, INFER])
@pytest.mark.parametrize("sent", [b"", b"{"])
def test_a_body_that_does_not_come_is_a_408(server: ServerProcess, path: str, sent: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD % path.encode() + b"Content-Length: 50\r\n\r\n" + sent)
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408"), head
    assert ("error" if path == INFER else "type") in json.loads(body)


def test_a_body_of_one_byte_after_the_other_is_a_408(server: ServerProcess) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD % SUMS.encode() + b"Content-Length: 5000\r\n\r\n")
        assert drip(connection, b" " * 5000, 0.1).startswith(b"HTTP/1.1 408")


def test_a_body_that_nobody_waits_for_is_not_taken_for_ever(server: ServerProcess) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
        assert drip(connection, b" " * 5000, 0.1).startswith(b"HTTP/1.1 200")


def test_a_connection_that_says_nothing_is_ended(server: ServerProcess) -> None:
    with connect(server) as connection:
        assert received(connection) == b""
    with connect(server) as connection:
        connection.sendall(b"\r\n")
        assert received(connection) == b""


def test_a_head_without_end_is_a_400(server: ServerProcess) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD % SUMS.encode() + b"X-Long: " + b"x" * 70_000)
        assert received(connection).startswith(b"HTTP/1.1 400")


def test_a_head_that_is_too_large_is_a_400_though_it_comes_at_once(server: ServerProcess) -> None:
    body = json.dumps({"rows": [GOOD]}).encode()
    head = HEAD % SUMS.encode() + b"Content-Length: %d\r\nX-Long: " % len(body)
    for length, status in ((60_000, b"200"), (66_000, b"400"), (100_000, b"400")):
        with connect(server) as connection:
            connection.sendall(head + b"x" * length + b"\r\nConnection: close\r\n\r\n" + body)
            assert received(connection).startswith(b"HTTP/1.1 " + status)


def test_an_answer_that_nobody_takes_is_thrown_away(server: ServerProcess) -> None:
    rows = gzip.compress(json.dumps({"rows": [GOOD] * 2000}).encode())
    head = HEAD % SUMS.encode() + b"Content-Encoding: gzip\r\n"
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Small requests with more answers than the system keeps, none of which is read.
        connection.sendall((head + b"Content-Length: %d\r\n\r\n" % len(rows) + rows) * 80)
        deadline = time.monotonic() + PATIENCE
        while is_open(connection):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert_answers(server)


def test_a_caller_who_leaves_in_the_middle_is_logged_and_harms_nobody(
    server: ServerProcess,
) -> None:
    for path in (SUMS, INFER):
        name = path.rpartition("/")[2]
        with connect(server) as connection:
            connection.sendall(HEAD % path.encode() + b"X-Request-Id: left-%b\r\n" % name.encode())
            connection.sendall(b"Content-Length: 500\r\n\r\n{")
            time.sleep(0.2)
        line = server.line_of(f"left-{name}")
        assert (line["http.response.status_code"], line["ml.outcome"]) == (499, "abandoned")
        assert line["ml.model.version"] == "2"
    assert_answers(server)


def test_many_slow_callers_delay_nobody(server: ServerProcess) -> None:
    with ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(connect(server))
            connection.sendall(HEAD % SUMS.encode() + b"Content-Length: 9\r\n\r\n"[: number % 20])
        started = time.monotonic()
        for _ in range(20):
            assert_answers(server)
        assert time.monotonic() - started < 5


def mutated(chance: random.Random, request: bytes) -> bytes:
    """Return a request with some bytes changed, left out, repeated or cut off."""
    content = bytearray(request)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(content) + 1)
        match chance.randrange(5):
            case 0:
                content[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del content[place : place + chance.randint(1, 40)]
            case 2:
                content[place:place] = content[place : place + chance.randint(1, 200)]
            case 3:
                content[place:place] = chance.randbytes(chance.randint(1, 30))
            case _:
                content[place:place] = chance.choice([b"\r\n", b"\0", b"[" * 999, b"-", b"9" * 30])
    return bytes(content)


TENSORS = [
    {"name": "a", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}},
    {"name": "b", "shape": [1], "datatype": "FP64", "data": [2.0]},
    {"name": "a", "shape": [1], "datatype": "INT64", "data": [2]},
]
ROWS = json.dumps({"rows": [GOOD, GOOD], "entity": "customer 1"}).encode()
ONE_ROW = json.dumps({"rows": [GOOD]}).encode()
JSON_TENSORS = json.dumps({"id": "1", "inputs": TENSORS[1:]}).encode()
BINARY = json.dumps({"inputs": TENSORS[:1]}).encode()
LENGTH = b"Content-Length: %d\r\n\r\n"
# Pairs of a head, which is given the length of the body, and a body.
VALID = [
    (HEAD % SUMS.encode() + LENGTH, ROWS),
    (HEAD % b"/v1/models/sums/versions/1/predict" + LENGTH, ONE_ROW),
    (HEAD % SUMS.encode() + b"Content-Encoding: gzip\r\n" + LENGTH, gzip.compress(ROWS)),
    (HEAD % INFER.encode() + LENGTH, JSON_TENSORS),
    (
        HEAD % INFER.encode() + b"Inference-Header-Content-Length: %d\r\n" % len(BINARY) + LENGTH,
        BINARY + b"\0" * 8,
    ),
    (b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\n\r\n", b""),
    (b"GET /v1/models/sums HTTP/1.1\r\nHost: x\r\n\r\n" * 3, b""),
]


TOKEN = re.compile(rb'"[a-z_]+"|[0-9.]+|\[|\{')
ODD = [
    b"null",
    b"-1",
    b"true",
    b"1e999",
    b"[]",
    b"{}",
    b'"x"',
    b"9" * 400,
    b'"\\ud800"',
    b"[{}]",
    b"2",
]


def reworded(chance: random.Random, body: bytes) -> bytes:
    """Return a body in which one word of its JSON is another one."""
    words = list(TOKEN.finditer(body))
    if not words:
        return body
    word = chance.choice(words)
    return body[: word.start()] + chance.choice(ODD) + body[word.end() :]


def fuzzed(chance: random.Random) -> bytes:
    """Return a request that is wrong: its head or, with the length that it has, its body."""
    head, body = chance.choice(VALID)
    kind = chance.randrange(4) if body else 0
    if kind == 0:
        return mutated(chance, head % len(body) + body if body else head)
    body = mutated(chance, body) if kind == 1 else reworded(chance, body)
    return head % len(body) + body


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


def answer_to(server: ServerProcess, request: bytes, seconds: float) -> bytes:
    """Send bytes and wait so long for an answer; then say that nothing more will come."""
    with connect(server) as connection, selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        try:
            connection.sendall(request)
            first = connection.recv(65536) if selector.select(seconds) else b""
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return b""
        return first + received(connection)


def test_mutated_bytes_at_the_socket_are_never_a_5xx_and_never_a_hang(
    server: ServerProcess,
) -> None:
    chance = random.Random(20260101)  # noqa: S311 - the same bytes in every run
    sent = [fuzzed(chance) for _ in range(3000)]
    with ThreadPoolExecutor(8) as pool:
        # Of some, nobody says that nothing more will come: the limit of a request ends them.
        waits = [PATIENCE if number % 60 == 0 else 0.03 for number in range(len(sent))]
        answers = list(pool.map(lambda one: answer_to(server, *one), zip(sent, waits, strict=True)))
    seen = Counter(status for answer in answers for status in statuses(answer))
    wrong = [
        pair for pair in zip(sent, answers, strict=True) if max(statuses(pair[1]) or [0]) > 499
    ]
    assert not wrong, wrong[0]
    assert {200, 400, 404, 422} <= set(seen), seen
    assert seen[200] > 300
    assert_answers(server)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc: Linux only")
def test_memory_does_not_grow_with_what_is_asked(server: ServerProcess) -> None:
    """`benchmarks/serving/memory_growth.py` does the same with 100,000 requests."""
    chance = random.Random(7)  # noqa: S311 - the same bytes in every run

    def ask(count: int) -> float:
        for _ in range(count // 4):
            with connect(server) as connection:
                connection.sendall(fuzzed(chance))
                connection.shutdown(socket.SHUT_WR)
                received(connection)
            for row in (GOOD, {**GOOD, "a": "x", f"f{chance.random()}": 1}, {"b": None}):
                server.client.post(SUMS, json={"rows": [row]})
        return megabytes_of(server)

    before = ask(3000)
    assert ask(3000) - before < 4


LARGE = 9 * 2**20
GZIP = {"content-encoding": "gzip"}


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[ServerProcess]:
    """A service that takes bodies as large as it does unless told otherwise."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads /proc: Linux only")
    with stub_server(tmp_path, limits={"seconds_per_request": PATIENCE}) as running:
        assert_answers(running)
        yield running


def megabytes_of(server: ServerProcess) -> float:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def shed(server: ServerProcess) -> float:
    """Return how often the metrics say that version 2 had no time for a request."""
    line = r'model_service_predictions_total\{model="sums",outcome="shed",version="2"\} ([0-9.e+]+)'
    found = re.search(line, server.client.get("/metrics").text)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("path", [SUMS, INFER])
def test_large_bodies_that_do_not_end_do_not_fill_the_memory(
    roomy: ServerProcess, path: str
) -> None:
    before, shed_before = megabytes_of(roomy), shed(roomy)
    head = HEAD % path.encode() + b"Content-Length: %d\r\n\r\n" % (LARGE + 1)
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        callers = [stack.enter_context(connect(roomy)) for _ in range(40)]
        list(pool.map(lambda caller: caller.sendall(head + b" " * LARGE), callers))
        with selectors.DefaultSelector() as selector:
            for caller in callers:
                selector.register(caller, selectors.EVENT_READ)
            deadline = time.monotonic() + PATIENCE
            while len(refused := selector.select(1)) < 33:
                assert time.monotonic() < deadline, len(refused)
            answers = [key.fileobj.recv(65536) for key, _ in refused]  # type: ignore[union-attr]
        assert all(answer.startswith(b"HTTP/1.1 429") for answer in answers)
        assert all(b"retry-after: 1" in answer for answer in answers)
        assert_answers(roomy)
        becomes_large = {"content": gzip.compress(b"[" * LARGE), "headers": GZIP}
        assert roomy.client.post(path, **becomes_large).status_code == 429  # type: ignore[arg-type]
    assert megabytes_of(roomy) - before < 250
    assert shed(roomy) - shed_before >= 33
    # What was held is free again.
    body = json.dumps({"rows": [GOOD]}).encode() + b" " * LARGE
    deadline = time.monotonic() + PATIENCE
    while roomy.client.post(SUMS, content=body).status_code != 200:
        assert time.monotonic() < deadline


def test_large_bodies_that_are_refused_are_let_go(roomy: ServerProcess) -> None:
    before = megabytes_of(roomy)
    for _ in range(30):
        assert roomy.client.post(SUMS, content=b"x" * LARGE).status_code == 400
    assert megabytes_of(roomy) - before < 100
