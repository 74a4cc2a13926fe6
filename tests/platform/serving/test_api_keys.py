"""API keys: off until somebody has one, then nothing but health and documents without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_service.serving.api_keys import digest_of, new_key
from tests.platform.serving.server_process import ServerProcess, stub_server
from tests.rendering import ROOT

KEYS = {"web": new_key(), "web-2027": new_key()}
ASK = "/v1/models/sums/predict"
BODY = {"rows": [{"a": 1, "b": 2, "how": "well"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    digests = {name: digest_of(key) for name, key in KEYS.items()}
    folder = tmp_path_factory.mktemp("stub")
    with stub_server(folder, wait=False, api_keys=digests) as started:
        started.client.headers["authorization"] = f"Bearer {KEYS['web']}"
        started.wait_until_loaded()
        del started.client.headers["authorization"]
        yield started


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_each_key_opens_the_door(server: ServerProcess, name: str, header: str) -> None:
    value = KEYS[name] if header == "X-API-Key" else f"Bearer {KEYS[name]}"
    assert server.client.post(ASK, json=BODY, headers={header: value}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEYS['web']}"},
        {"Authorization": f"Bearer {KEYS['web'][:-1]}"},
        {"Authorization": f"Bearer {digest_of(KEYS['web'])}"},
        {"X-API-Key": "web"},
        {"X-API-Key": "\u00e9"},
    ],
)
def test_without_a_key_nothing_is_answered(server: ServerProcess, headers: dict[str, str]) -> None:
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    for method, path in (("POST", ASK), ("GET", "/v1/models"), ("GET", "/invented")):
        got = server.client.request(method, path, json=BODY, headers=encoded)
        assert got.status_code == 401
        assert got.headers["www-authenticate"] == "Bearer"
        assert got.headers["content-type"] == "application/problem+json"
        assert got.json()["type"].endswith("key-required")
        assert got.json()["request_id"] == got.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/livez", "/readyz", "/metrics"])
def test_health_metrics_and_documents_need_no_key(server: ServerProcess, path: str) -> None:
    assert server.client.get(path).status_code == 200


def test_requests_are_counted_by_caller_and_no_key_is_ever_written(server: ServerProcess) -> None:
    for name, key in KEYS.items():
        server.client.post(ASK, json=BODY, headers={"x-api-key": key, "x-request-id": name})
        server.line_of(name)
    assert server.client.post(ASK, json=BODY).status_code == 401
    text = server.client.get("/metrics").text
    assert 'model_service_key_requests_total{key="web-2027"}' in text
    assert "model_service_key_refused_requests_total 0.0" not in text
    assert "model_service_key_refused_requests_total " in text
    written = "".join(map(str, server.log)) + "".join(server.told) + text
    assert not any(key in written for key in KEYS.values())


def test_the_openapi_document_says_that_a_key_is_needed(server: ServerProcess) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["security"] == [{"ApiKey": []}]
    assert document["paths"]["/readyz"]["get"]["security"] == []
    assert "security" not in document["paths"][ASK]["post"]
    assert "401" in document["paths"][ASK]["post"]["responses"]


def test_the_command_makes_a_key_that_its_digest_lets_in(tmp_path: Path) -> None:
    (tmp_path / "service.yaml").write_text("name: acme\n", encoding="utf-8")
    command = [sys.executable, "-m", "model_service", "--repository", str(tmp_path), "api-key"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "template/src")}
    made = subprocess.run(
        [*command, "web"], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    digest = next(word for word in made if word.startswith("sha256:"))
    assert digest in {digest_of(word) for word in made}
    refused = subprocess.run(
        [*command, "The Web"], env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "no caller's name" in refused.stderr
