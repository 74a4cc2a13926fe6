"""Every error of every layer has one shape, and none of them is the fault of the caller's data."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from model_service.serving.problems import PROBLEMS
from tests.platform.serving.server_process import ServerProcess, stub_server

GOOD = {"a": 1.5, "b": 2, "how": "well"}
SUMS = "/v1/models/sums/predict"
LIMITS = {
    "body_bytes": 20_000,
    "rows_per_request": 50,
    "queue_rows": 50,
    "seconds_per_request": 0.5,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("stub")
    with stub_server(folder, limits=LIMITS, broken=True) as running:
        yield running


def problem_of(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Return the problem of an answer that has the one shape."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/docs#problem-{slug}")
    assert set(problem) == {"type", "title", "status", "detail", "request_id", "faults"}
    assert problem["status"] == status
    assert problem["title"] == PROBLEMS[slug].title
    assert len(problem["detail"]) > 20
    assert answer.headers["x-request-id"] == problem["request_id"]
    return problem


def post(server: ServerProcess, content: bytes, path: str = SUMS, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.client.post(
        path, content=content, headers={"content-type": "application/json", **named}
    )


def body_of(*rows: Any) -> bytes:
    return json.dumps({"rows": rows}).encode()


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        (b"", "invalid-json"),
        (b"{", "invalid-json"),
        (b"\xff\xfe{", "invalid-json"),
        (b'{"rows":[{"a":NaN}]}', "invalid-json"),
        (b"[" * 15_000, "invalid-request"),
        (b'{"rows":[{"a":' + b"[" * 15_000, "invalid-json"),
        (b"[]", "invalid-request"),
        (b"null", "invalid-request"),
        (b'{"rows":{}}', "invalid-request"),
        (b'{"rows":[]}', "invalid-request"),
        (b"{}", "invalid-request"),
        (b'{"rows":[{"a":1}],"extra":1}', "invalid-request"),
        (b'{"rows":[{"a":1}],"entity":7}', "invalid-request"),
    ],
)
def test_a_body_that_is_no_request_is_a_400(
    server: ServerProcess, content: bytes, slug: str
) -> None:
    problem_of(post(server, content), 400, slug)


@pytest.mark.parametrize(
    "row",
    [
        None,
        7,
        "text",
        [],
        {},
        {**GOOD, "a": "1"},
        {**GOOD, "a": True},
        {**GOOD, "a": None},
        {**GOOD, "a": {"deep": [1]}},
        {**GOOD, "how": 1},
        {**GOOD, "new": 1},
    ],
)
def test_a_row_that_the_contract_refuses_is_a_422_with_a_pointer(
    server: ServerProcess, row: Any
) -> None:
    problem = problem_of(post(server, body_of(row)), 422, "rows-rejected")
    assert problem["faults"]
    assert all(fault["pointer"].startswith("/rows/0") for fault in problem["faults"])
    assert all(fault["code"] and fault["message"] for fault in problem["faults"])


def test_deep_nesting_inside_a_row_is_refused_without_a_5xx(server: ServerProcess) -> None:
    content = b'{"rows":[{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]}"
    assert post(server, content).status_code in (400, 422)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/models/sums/predict/", "/v1/models/a/b/predict"])
def test_an_unknown_address_is_a_404(server: ServerProcess, path: str) -> None:
    if path != "/":
        problem_of(server.client.get(path), 404, "not-found")
        problem_of(post(server, body_of(GOOD), path), 404, "not-found")
    else:
        assert server.client.get(path).status_code == 200


@pytest.mark.parametrize(
    "name", ["nosuch", "%2e%2e", "a b", "x" * 200, "%00", "%C3%A9", "sums%0d%0aX-Evil: 1"]
)
def test_an_unknown_model_is_a_404_that_does_not_repeat_its_name(
    server: ServerProcess, name: str
) -> None:
    problem = problem_of(
        post(server, body_of(GOOD), f"/v1/models/{name}/predict"), 404, "model-not-found"
    )
    assert "nosuch" not in json.dumps(problem)
    problem_of(server.client.get(f"/v1/models/{name}"), 404, "model-not-found")


@pytest.mark.parametrize("version", ["9", "challenger", "..%20", "3", ""])
def test_a_version_that_is_not_served_is_a_404_that_says_what_is(
    server: ServerProcess, version: str
) -> None:
    path = f"/v1/models/sums/versions/{version}/predict"
    problem = problem_of(post(server, body_of(GOOD), path), 404, "version-not-found")
    if version in ("9", "3"):
        assert "champion" in problem["detail"]


def test_a_wrong_method_is_a_405_that_names_the_right_one(server: ServerProcess) -> None:
    for path in (SUMS, "/v1/models/sums/versions/1/predict"):
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = server.client.request(method, path)
            problem_of(answer, 405, "method-not-allowed")
            assert answer.headers["allow"] == "POST"
    answer = server.client.post("/v1/models")
    problem_of(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
def test_another_content_type_is_a_415(server: ServerProcess, content_type: str) -> None:
    answer = server.client.post(SUMS, content=body_of(GOOD), headers={"content-type": content_type})
    problem_of(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json; charset=UTF-8", "Application/JSON", "application/problem+json"],
)
def test_json_by_any_of_its_names_is_taken(server: ServerProcess, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = server.client.post(SUMS, content=body_of(GOOD), headers=headers)
    assert answer.status_code == 200, answer.text


def test_compressed_bodies_are_read(server: ServerProcess) -> None:
    content = body_of(GOOD)
    raw = zlib.compressobj(wbits=-15)
    for encoding, packed in (
        ("gzip", gzip.compress(content)),
        ("deflate", zlib.compress(content)),
        ("deflate", raw.compress(content) + raw.flush()),
    ):
        answer = post(server, packed, content_encoding=encoding)
        assert answer.json()["rows"][0]["value"] == 3.5


def test_compressed_bodies_that_are_broken_or_unknown_are_refused(server: ServerProcess) -> None:
    packed = gzip.compress(body_of(GOOD))
    problem_of(post(server, packed[:-9], content_encoding="gzip"), 400, "invalid-json")
    problem_of(post(server, b"no gzip", content_encoding="gzip"), 400, "invalid-json")
    problem_of(post(server, packed + b"more", content_encoding="gzip"), 400, "invalid-json")
    answer = post(server, packed, content_encoding="br")
    problem_of(answer, 415, "unsupported-media-type")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


def test_a_large_body_is_a_413_declared_streamed_or_compressed(server: ServerProcess) -> None:
    content = b'{"rows":[' + b" " * 30_000 + b"]}"
    problem_of(post(server, content), 413, "body-too-large")
    streamed = server.client.post(SUMS, content=iter([content[:10_000]] * 4))
    problem_of(streamed, 413, "body-too-large")
    bomb = gzip.compress(b" " * 10_000_000)
    problem_of(post(server, bomb, content_encoding="gzip"), 413, "body-too-large")


def test_too_many_rows_are_a_413(server: ServerProcess) -> None:
    problem_of(post(server, body_of(*[GOOD] * 51)), 413, "too-many-rows")


def test_a_model_that_fails_for_its_only_row_is_a_500(server: ServerProcess) -> None:
    for how in ("raise", "nan", "exit"):
        problem = problem_of(post(server, body_of({**GOOD, "how": how})), 500, "model-failed")
        assert problem["faults"][0]["pointer"] == "/rows/0"
        assert "4711" not in json.dumps(problem)
    assert server.client.get("/livez").status_code == 200


def test_a_version_that_failed_to_load_is_a_503_with_its_reason(server: ServerProcess) -> None:
    problem = problem_of(
        post(server, body_of(GOOD), "/v1/models/broken/predict"), 503, "model-not-ready"
    )
    assert "model.onnx is not the file that was trained" in problem["detail"]
    problem = problem_of(
        post(server, body_of(GOOD), "/v1/models/untrained/predict"), 503, "model-not-ready"
    )
    assert "stub train untrained" in problem["detail"]


def test_a_model_that_takes_too_long_is_a_504_then_a_429_and_blocks_nobody(
    server: ServerProcess,
) -> None:
    slow = "/v1/models/sums/versions/1/predict"
    rows = [{"a": 1, "b": 1.0, "how": "sleep"}, *[GOOD] * 49]
    problem_of(post(server, body_of(*rows), slow), 504, "deadline-exceeded")
    answer = post(server, body_of(GOOD), slow)
    problem_of(answer, 429, "queue-full")
    assert int(answer.headers["retry-after"]) >= 1
    assert post(server, body_of(GOOD)).status_code == 200


def bytes_answered(server: ServerProcess, sent: bytes) -> tuple[bytes, bytes]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_bytes_that_are_no_http_have_the_same_shape(server: ServerProcess, sent: bytes) -> None:
    head, body = bytes_answered(server, sent)
    assert head.startswith(b"HTTP/1.1 400"), head
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert problem["type"] == "/docs#problem-malformed-http"
    assert problem["request_id"]


def test_a_body_that_never_ends_is_a_408(server: ServerProcess) -> None:
    head, body = bytes_answered(
        server, f"POST {SUMS} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{".encode()
    )
    assert head.startswith(b"HTTP/1.1 408"), head
    assert json.loads(body)["type"] == "/docs#problem-request-timeout"


def test_a_caller_who_leaves_mid_body_harms_nobody(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(f"POST {SUMS} HTTP/1.1\r\nContent-Length: 50\r\n\r\n{{".encode())
    assert post(server, body_of(GOOD)).status_code == 200


def test_every_type_of_error_is_explained_where_it_points(server: ServerProcess) -> None:
    page = server.client.get("/docs").text
    for slug in PROBLEMS:
        assert f'id="problem-{slug}"' in page
