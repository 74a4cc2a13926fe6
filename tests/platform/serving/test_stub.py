"""The stub answers every contract before any training, says what it is, and records who asked."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tritonclient import http as triton

from model_service.registry.registry import Registry
from model_service.repository import Repository
from model_service.serving.stub_callers import (
    MOST_CALLERS,
    UNNAMED,
    Caller,
    StubCallers,
    callers_file,
    read_callers,
)
from tests.platform.serving.server_process import ServerProcess, stub_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ROW = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "body_mass_g": 3750,
    "sex": "male",
}
SPECIES = "/v1/models/penguin_species/predict"


def serve(folder: Path, *options: str) -> ServerProcess:
    command = [sys.executable, "-m", "model_service", "--repository", str(folder), "serve"]
    server = ServerProcess([*command, "--stub", "--port", "0", *options])
    server.wait_until_loaded()
    return server


@pytest.fixture(scope="module")
def untrained(default_service: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained") / "acme-models"
    shutil.copytree(default_service, folder)
    service = (folder / "service.yaml").read_text(encoding="utf-8")
    quick = service.replace("drain_seconds: 5", "drain_seconds: 0")
    (folder / "service.yaml").write_text(quick, encoding="utf-8")
    assert not Registry(folder / "registry").models()
    return folder


@pytest.fixture(scope="module")
def stub(untrained: Path) -> Iterator[ServerProcess]:
    server = serve(untrained)
    yield server
    assert server.stop() == 0


def predicted(server: ServerProcess, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answered: list[dict[str, Any]] = server.client.post(SPECIES, json={"rows": rows}).json()["rows"]
    return answered


def wait_for(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/readyz", 200),
        ("GET", "/docs", 200),
        ("GET", "/v1/models/penguin_mass", 200),
        ("GET", "/v1/models/nobody", 404),
        ("PUT", SPECIES, 405),
        ("POST", SPECIES, 400),
        ("POST", "/v1/models/penguin_species/versions/9/predict", 404),
        ("GET", "/v2/models/penguin_species/versions/1/ready", 200),
        ("POST", "/v2/models/penguin_species/infer", 400),
    ],
)
def test_every_answer_says_that_it_is_a_stubs(
    stub: ServerProcess, method: str, path: str, status: int
) -> None:
    answer = stub.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-stub"] == "true"


def test_an_answer_to_a_request_in_one_packet_says_so_too(stub: ServerProcess) -> None:
    body = msgspec.json.encode({"rows": [ROW]})
    head = f"POST {SPECIES} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stub.port), timeout=20) as connection:
        for _ in range(10):
            connection.sendall(head.encode() + body)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"\r\nx-stub: true\r\n" in answer


def test_ground_truth_is_told_to_the_stub_and_kept_apart_from_what_models_answered(
    stub: ServerProcess, untrained: Path
) -> None:
    told = {"prediction_id": predicted(stub, [ROW])[0]["prediction_id"], "value": "Adelie"}

    def results() -> list[str]:
        answer = stub.client.post("/v1/ground-truth", json={"ground_truth": [told]}).json()
        return [one["result"] for one in answer["ground_truth"]]

    wait_for(lambda: results() == ["repeated"])
    assert (untrained / "prediction_log/stub/predictions.sqlite").exists()
    assert not (untrained / "prediction_log/predictions.sqlite").exists()


def test_the_real_service_does_not_say_so(tmp_path: Path) -> None:
    with stub_server(tmp_path) as real:
        assert "x-stub" not in real.client.get("/readyz").headers
    assert not callers_file(Repository(tmp_path)).exists()


def test_the_addresses_of_the_first_version_are_there_already(stub: ServerProcess) -> None:
    for version, alias in [("champion", "champion"), ("1", None)]:
        path = f"/v1/models/penguin_species/versions/{version}/predict"
        answer = stub.client.post(path, json={"rows": [ROW]}).json()
        assert answer["alias"] == alias
        assert answer["rows"][0]["probabilities"]
    described = stub.client.get("/v1/models/penguin_species").json()
    assert {version["format"] for version in described["versions"]} == {"stub"}


def test_the_same_row_is_answered_the_same_and_others_otherwise(stub: ServerProcess) -> None:
    rows = [{**ROW, "body_mass_g": 3000 + step} for step in range(60)]
    first, again = predicted(stub, rows), predicted(stub, rows[::-1])[::-1]
    values = [row["value"] for row in first]
    assert values == [row["value"] for row in again]
    assert values[7] == predicted(stub, rows[7:8])[0]["value"]
    assert set(values) == {"Adelie", "Chinstrap", "Gentoo"}
    for row in first:
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["value"] == max(row["probabilities"], key=row["probabilities"].get)


def test_numbers_lie_in_the_range_of_the_contract(stub: ServerProcess) -> None:
    rows = [{**ROW, "flipper_length_mm": 150 + step} for step in range(80)]
    for row in rows:
        del row["body_mass_g"]
    answer = stub.client.post("/v1/models/penguin_mass/predict", json={"rows": rows}).json()
    values = [row["value"] for row in answer["rows"]]
    assert len(set(values)) > 10
    assert min(values) >= 2000
    assert max(values) <= 8000


def test_policies_and_faults_are_those_of_the_contract(stub: ServerProcess) -> None:
    mended, refused = predicted(
        stub, [{**ROW, "island": "Atlantis", "sex": None}, {**ROW, "body_mass_g": 4}]
    )
    assert [w["problem"] for w in mended["warnings"]] == ["unknown_category", "missing"]
    assert refused["error"]["faults"][0]["pointer"] == "/rows/1/body_mass_g"


def test_the_documented_answers_are_the_ones_given(stub: ServerProcess) -> None:
    document = stub.client.get("/openapi.json").json()
    tried = 0
    for path in [path for path in document["paths"] if path.endswith("/predict")]:
        if "{version}" in path:
            continue
        operation = document["paths"][path]["post"]
        requests = operation["requestBody"]["content"]["application/json"]["examples"]
        answers = operation["responses"]["200"]["content"]["application/json"]["examples"]
        for name, request in requests.items():
            given = stub.client.post(path, json=request["value"]).json()["rows"]
            for row in [*given, *answers[name]["value"]["rows"]]:
                del row["prediction_id"]
            assert given == answers[name]["value"]["rows"]
            tried += 1
    assert tried >= 4


def test_a_client_of_the_inference_protocol_is_answered(stub: ServerProcess) -> None:
    client = triton.InferenceServerClient(stub.url.removeprefix("http://"))
    assert client.is_model_ready("penguin_mass")
    inputs = []
    for tensor in client.get_model_metadata("penguin_mass")["inputs"]:
        kind = {"BYTES": "O", "FP64": "f8", "INT64": "i8"}[tensor["datatype"]]
        values: NDArray[Any] = np.array([ROW[tensor["name"]]], dtype=kind)
        inputs.append(triton.InferInput(tensor["name"], [1], tensor["datatype"]))
        inputs[-1].set_data_from_numpy(values)
    value = client.infer("penguin_mass", inputs).as_numpy("body_mass_g")[0]
    row = {name: value for name, value in ROW.items() if name != "body_mass_g"}
    answer = stub.client.post("/v1/models/penguin_mass/predict", json={"rows": [row]}).json()
    assert value == answer["rows"][0]["value"]


def test_who_asked_for_what_is_recorded_and_kept_over_a_restart(
    untrained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "acme-models"
    shutil.copytree(untrained, folder, ignore=shutil.ignore_patterns("handoff", "prediction_log"))
    evidence = callers_file(Repository(folder))
    shop = {"x-service-name": "shop"}
    server = serve(folder)
    server.client.post(SPECIES, json={"rows": [ROW]}, headers=shop)
    server.client.post(SPECIES, json={"rows": []}, headers=shop)
    server.client.post(SPECIES, json={"rows": [ROW]}, headers={"x-service-name": "No Name!"})
    server.client.post("/v1/models/made_up/predict", json={"rows": [ROW]}, headers=shop)
    server.client.get("/v1/models", headers=shop)
    wait_for(lambda: "shop" in read_callers(evidence))
    assert server.stop() == 0
    server = serve(folder)
    mass = {name: value for name, value in ROW.items() if name != "body_mass_g"}
    last = server.client.post(
        "/v1/models/penguin_mass/versions/1/predict", json={"rows": [mass]}, headers=shop
    )
    assert server.stop() == 0

    callers = read_callers(evidence)
    assert callers.keys() == {"shop", UNNAMED}
    shop_did = callers["shop"]
    assert shop_did.requests == 3
    assert shop_did.models == {"penguin_species": 2, "penguin_mass": 1}
    assert shop_did.statuses == {"200": 2, "400": 1}
    assert shop_did.last_request_id == last.headers["x-request-id"]
    assert shop_did.first <= shop_did.last
    assert callers[UNNAMED].requests == 1


def test_workers_add_up_what_they_counted(tmp_path: Path) -> None:
    path = tmp_path / "handoff/evidence/callers.json"

    def work(number: int) -> None:
        callers = StubCallers(path)
        for _ in range(20):
            callers.count(f"caller-{number % 2}", "m", 200, "id")
            callers.write()

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: caller.requests for name, caller in read_callers(path).items()} == {
        "caller-0": 40,
        "caller-1": 40,
    }
    assert not list(path.parent.glob(".*json.[0-9a-f]*"))


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    (tmp_path / "handoff").touch()
    callers = StubCallers(tmp_path / "handoff/callers.json")
    callers.count("shop", "m", 200, "1")
    with pytest.raises(OSError, match="handoff"):
        callers.write()
    callers.count("shop", "m", 422, "2")
    (tmp_path / "handoff").unlink()
    callers.write()
    (shop,) = read_callers(tmp_path / "handoff/callers.json").values()
    assert (shop.requests, shop.last_request_id) == (2, "2")


def test_more_callers_than_are_kept_are_counted_together(tmp_path: Path) -> None:
    callers = StubCallers(tmp_path / "callers.json")
    for number in range(MOST_CALLERS + 5):
        callers.count(f"caller-{number}", "m", 200, "id")
    callers.write()
    kept = read_callers(tmp_path / "callers.json")
    assert len(kept) == MOST_CALLERS + 1
    assert kept[UNNAMED].requests == 5


def test_a_file_that_is_not_the_stubs_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "callers.json"
    path.write_text("notes", encoding="utf-8")
    callers = StubCallers(path)
    callers.count("shop", "m", 200, "id")
    with pytest.raises(msgspec.MsgspecError):
        callers.write()
    assert path.read_text(encoding="utf-8") == "notes"


def test_a_caller_takes_over_what_was_counted_later() -> None:
    caller = Caller("a", "b", 1, {"m": 1}, {"200": 1}, "1")
    caller.add(Caller("c", "d", 2, {"m": 1, "n": 1}, {"422": 2}, "2"))
    assert caller == Caller("a", "d", 3, {"m": 2, "n": 1}, {"200": 1, "422": 2}, "2")


def test_a_broken_contract_keeps_only_its_own_model_out(untrained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "acme-models"
    shutil.copytree(untrained, folder, ignore=shutil.ignore_patterns("prediction_log"))
    path = folder / "models/penguin_mass/contract.yaml"
    broken = path.read_text(encoding="utf-8").replace("type: number", "type: numbr")
    path.write_text(broken, encoding="utf-8")
    server = serve(folder)
    try:
        assert predicted(server, [ROW])[0]["value"]
        answer = server.client.post("/v1/models/penguin_mass/predict", json={"rows": [{}]})
        assert answer.status_code == 503
        assert "numbr" in answer.json()["detail"]
        assert server.client.get("/readyz").status_code == 503
    finally:
        server.stop()
