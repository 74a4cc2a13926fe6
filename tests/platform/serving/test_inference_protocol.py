"""The Open Inference Protocol: the same answers for tensors, and one shape for every error."""

from __future__ import annotations

import gzip
import json
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_service.registry.traffic import canary, shadow
from tests.platform.serving.server_process import ServerProcess, stub_server
from tests.platform.serving.test_answers import samples

INFER = "/v2/models/sums/infer"
KINDS = "/v2/models/kinds/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with stub_server(
        tmp_path_factory.mktemp("stub"), limits={"body_bytes": 200_000, "rows_per_request": 500}
    ) as started:
        yield started


def tensor(name: str, data: Any, datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data, **more}


def body_of(
    a: Any = (1.0, 2.0), b: Any = (2.0, 3.0), how: Any = ("well", "well"), **more: Any
) -> dict[str, Any]:
    inputs = [tensor("a", list(a)), tensor("b", list(b)), tensor("how", list(how), "BYTES")]
    return {"inputs": inputs, **more}


def outputs(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {one["name"]: one for one in answer.json()["outputs"]}


def error(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    return str(answer.json()["error"])


def test_the_server_and_its_health_are_described(server: ServerProcess) -> None:
    for path in ("/v2", "/v2/"):
        described = server.client.get(path).json()
        assert described["name"] == "stub"
        assert set(described["extensions"]) >= {"binary_tensor_data", "model_repository"}
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json()["ready"] is True


def test_health_says_by_its_status_too_that_a_model_is_out(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with stub_server(tmp_path_factory.mktemp("broken"), broken=True) as broken:
        assert broken.client.get("/v2/health/ready").status_code == 503
        assert broken.client.get("/v2/health/ready").json()["ready"] is False
        error(broken.client.get("/v2/models/broken/ready"), 503)
        index = broken.client.post("/v2/repository/index").json()
        states = {(one["name"], one["version"]): one for one in index}
        assert states["broken", "1"]["state"] == "UNAVAILABLE"
        assert "not the file" in states["broken", "1"]["reason"]
        ready = broken.client.post("/v2/repository/index", json={"ready": True}).json()
        assert {(one["name"], one["version"]) for one in ready} == states.keys() - {("broken", "1")}


def test_a_model_is_described_by_its_contract(server: ServerProcess) -> None:
    for path in (
        "/v2/models/sums",
        "/v2/models/sums/versions/2",
        "/v2/models/sums/versions/champion",
    ):
        described = server.client.get(path).json()
        assert (described["name"], described["versions"]) == ("sums", ["1", "2"])
        assert described["inputs"] == [
            {"name": "a", "datatype": "FP64", "shape": [-1]},
            {"name": "b", "datatype": "FP64", "shape": [-1]},
            {"name": "how", "datatype": "BYTES", "shape": [-1]},
        ]
        assert described["outputs"] == [{"name": "sum", "datatype": "FP64", "shape": [-1]}]
    kinds = server.client.get("/v2/models/kinds").json()["outputs"]
    assert kinds[1] == {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]}


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/2", "/versions/champion"])
def test_versions_and_aliases_answer_as_the_native_address_does(
    server: ServerProcess, version: str
) -> None:
    got = server.client.post(f"/v2/models/sums{version}/infer", json=body_of(id="mine"))
    assert outputs(got)["sum"] == {
        "name": "sum",
        "shape": [2],
        "datatype": "FP64",
        "data": [3.0, 5.0],
    }
    assert (got.json()["model_name"], got.json()["id"]) == ("sums", "mine")
    assert got.json()["model_version"] == ("1" if version == "/versions/1" else "2")


def test_classes_come_with_their_probabilities(server: ServerProcess) -> None:
    found = outputs(server.client.post(KINDS, json=body_of(a=[10, 90])))
    assert found["kind"]["data"] == ["small", "large"]
    assert found["probabilities"]["shape"] == [2, 2]
    assert found["probabilities"]["data"] == pytest.approx([0.9, 0.1, 0.1, 0.9])
    only = server.client.post(KINDS, json=body_of(outputs=[{"name": "kind"}]))
    assert list(outputs(only)) == ["kind"]


def test_an_id_is_taken_from_the_header_or_made(server: ServerProcess) -> None:
    got = server.client.post(INFER, json=body_of(), headers={"x-request-id": "from-header"})
    assert got.json()["id"] == got.headers["x-request-id"] == "from-header"
    assert server.client.post(INFER, json=body_of()).json()["id"]


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/plain"])
def test_the_body_is_read_whatever_its_type(
    server: ServerProcess, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    got = server.client.post(INFER, content=json.dumps(body_of()), headers=headers)
    assert outputs(got)["sum"]["data"] == [3.0, 5.0]


@pytest.mark.parametrize(
    ("shape", "data"),
    [([2], [1, 2]), ([2, 1], [1, 2]), ([2, 1], [[1], [2]]), ([2], [1.0, 2.0])],
)
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT64", "UINT8"])
def test_flat_and_nested_data_of_any_number_type_are_read(
    server: ServerProcess, shape: list[int], data: Any, datatype: str
) -> None:
    body = body_of()
    body["inputs"][0] |= {"shape": shape, "data": data, "datatype": datatype}
    assert outputs(server.client.post(INFER, json=body))["sum"]["data"] == [3.0, 5.0]


def binary(*parts: tuple[str, str, bytes], rows: int, **more: Any) -> tuple[bytes, dict[str, str]]:
    """Return a body whose tensors follow the JSON as bytes, and its header."""
    inputs = [
        {
            "name": name,
            "shape": [rows],
            "datatype": datatype,
            "parameters": {"binary_data_size": len(content)},
        }
        for name, datatype, content in parts
    ]
    head = json.dumps({"inputs": inputs, **more}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return head + b"".join(content for _, _, content in parts), length


def texts(*words: str) -> bytes:
    return b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in words)


def test_binary_tensors_go_both_ways(server: ServerProcess) -> None:
    content, headers = binary(
        ("a", "FP32", struct.pack("<2f", 1.5, 2)),
        ("b", "INT16", struct.pack("<2h", 2, -3)),
        ("how", "BYTES", texts("well", "well")),
        rows=2,
        parameters={"binary_data_output": True},
    )
    got = server.client.post(INFER, content=content, headers=headers)
    assert got.status_code == 200, got.text
    length = int(got.headers["inference-header-content-length"])
    described = json.loads(got.content[:length])["outputs"][0]
    assert "data" not in described
    assert described["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<2d", got.content[length:]) == (3.5, -1.0)
    said = error(server.client.post(INFER, content=content + b"?", headers=headers), 400)
    assert "bytes follow the JSON" in said


def test_texts_are_answered_as_bytes_where_that_is_wanted(server: ServerProcess) -> None:
    wanted = [{"name": "kind", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    got = server.client.post(KINDS, json=body_of(a=[10, 90], outputs=wanted))
    length = int(got.headers["inference-header-content-length"])
    assert got.content[length:] == texts("small", "large")
    assert json.loads(got.content[:length])["outputs"][1]["shape"] == [2, 2]


def test_a_missing_value_is_null_or_nan_or_named_or_a_tensor_left_out(
    server: ServerProcess,
) -> None:
    # b is imputed with 1 where it is missing.
    assert outputs(server.client.post(INFER, json=body_of(b=[None, 3])))["sum"]["data"] == [2, 5]
    content, headers = binary(
        ("a", "FP64", struct.pack("<2d", 1, 2)),
        ("b", "FP64", struct.pack("<2d", float("nan"), 3)),
        ("how", "BYTES", texts("well", "well")),
        rows=2,
    )
    got = server.client.post(INFER, content=content, headers=headers)
    assert outputs(got)["sum"]["data"] == [2, 5]
    assert got.json()["parameters"] == {"alias": "champion", "warnings": 1}
    named = body_of()
    named["inputs"][1]["parameters"] = {"missing": "0, 1"}
    assert outputs(server.client.post(INFER, json=named))["sum"]["data"] == [2, 3]
    left_out = body_of()
    del left_out["inputs"][1]
    assert outputs(server.client.post(INFER, json=left_out))["sum"]["data"] == [2, 3]


def test_policies_act_and_are_counted(server: ServerProcess) -> None:
    got = server.client.post(INFER, json=body_of(a=[900, 1], how=["new", "well"]))
    assert outputs(got)["sum"]["data"] == [102, 4]
    assert got.json()["parameters"]["warnings"] == 2


def test_compressed_bodies_are_read(server: ServerProcess) -> None:
    content = gzip.compress(json.dumps(body_of()).encode())
    got = server.client.post(INFER, content=content, headers={"content-encoding": "gzip"})
    assert outputs(got)["sum"]["data"] == [3.0, 5.0]
    bomb = gzip.compress(b" " * 1_000_000)
    error(server.client.post(INFER, content=bomb, headers={"content-encoding": "gzip"}), 413)


WRONG: list[tuple[Any, str]] = [
    ([], "no inference request"),
    ({}, "inputs"),
    ({"inputs": []}, "at least one"),
    ({"inputs": [{"name": "a"}]}, "no inference request"),
    ({"inputs": [tensor("a", [1], {"datatype": {}})]}, "no inference request"),  # type: ignore[arg-type]
    ({"inputs": [tensor("a", [1], "BYTES")]}, "datatype"),
    ({"inputs": [tensor("a", [1], "COMPLEX")]}, "datatype"),
    ({"inputs": [tensor("a", [1, 2], shape=[3])]}, "2 values"),
    ({"inputs": [tensor("a", [1], shape=[-1])]}, "shape"),
    ({"inputs": [tensor("a", [1], shape=[10**30])]}, "impossible shape"),
    ({"inputs": [tensor("a", [1], shape=[2**31, 1])]}, "1 values"),
    ({"inputs": [tensor("a", [1], shape=[1, 2])]}, "shape"),
    ({"inputs": [tensor("a", [1], shape=[])]}, "shape"),
    ({"inputs": [tensor("a", [[1]])]}, "Row 0"),
    ({"inputs": [tensor("a", [True])]}, "Row 0"),
    ({"inputs": [tensor("a", ["1"])]}, "Row 0"),
    ({"inputs": [tensor("a", []), tensor("b", [])]}, "at least one"),
    ({"inputs": [tensor("a", [1]), tensor("b", [1, 2])]}, "same number of rows"),
    ({"inputs": [tensor("a", [1]), tensor("a", [1])]}, "twice"),
    ({"inputs": [tensor("a", [1]), tensor("z", [1])]}, "no input of this model"),
    (body_of(outputs=[{"name": "nothing"}]), "no output of this model"),
    ({"inputs": [tensor("a", [1], parameters={"missing": "7"})]}, "missing"),
    ({"inputs": [tensor("a", [1], parameters={"missing": "x"})]}, "missing"),
    ({"inputs": [tensor("a", [1], parameters={"binary_data_size": -1})]}, "number of bytes"),
    ({"inputs": [tensor("a", [1], parameters={"binary_data_size": 8})]}, "bytes"),
    ({"inputs": [tensor("a", [None])]}, "Row 0"),
]


@pytest.mark.parametrize(("body", "said"), WRONG)
def test_what_does_not_fit_is_refused_with_the_reason(
    server: ServerProcess, body: Any, said: str
) -> None:
    content = json.dumps(body)
    assert said in error(server.client.post(INFER, content=content), 400)


@pytest.mark.parametrize("length", ["-1", "x", "99999999999", "1000000", "", "3"])
def test_a_wrong_length_of_the_json_is_refused(server: ServerProcess, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    error(server.client.post(INFER, json=body_of(), headers=headers), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/nobody", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", "/v2/models/sums/versions/77/infer", 404),
        ("GET", "/v2/models/..%2F..%2Fetc", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2", 405),
        ("POST", "/v2/repository/models/sums/unload", 400),
        ("POST", "/v2/repository/models/nobody/load", 404),
    ],
)
def test_every_layer_has_one_shape_of_error(
    server: ServerProcess, method: str, path: str, status: int
) -> None:
    error(server.client.request(method, path), status)


def test_limits_hold(server: ServerProcess) -> None:
    many = [1.0] * 501
    refused = 'model_service_predictions_total{model="sums",outcome="invalid_input",version="2"}'
    before = samples(server)[refused]
    error(server.client.post(INFER, json=body_of(many, many, ["well"] * 501)), 413)
    error(server.client.post(INFER, content=b" " * 200_001), 413)
    assert samples(server)[refused] == before + 2


def test_rows_that_got_no_answer_are_not_counted_as_answered(server: ServerProcess) -> None:
    before = samples(server)
    error(server.client.post(INFER, json=body_of(how=["raise", "well"])), 500)
    after = samples(server)
    name = 'model_service_predictions_total{{model="sums",outcome="{}",version="2"}}'.format
    assert after[name("ok")] == before[name("ok")]
    assert after[name("model_error")] == before[name("model_error")] + 2


def test_what_is_served_is_listed_and_not_changed_from_outside(server: ServerProcess) -> None:
    index = server.client.post("/v2/repository/index").json()
    assert {(one["name"], one["version"], one["state"]) for one in index} == {
        ("sums", "1", "READY"),
        ("sums", "2", "READY"),
        ("kinds", "1", "READY"),
    }
    assert server.client.post("/v2/repository/index", json={"ready": True}).json() == index
    assert server.client.post("/v2/repository/models/sums/load", json={}).status_code == 200
    config = {"parameters": {"file:1/model.onnx": "AAAA"}}
    assert "traffic.yaml" in error(
        server.client.post("/v2/repository/models/sums/load", json=config), 400
    )


def test_answers_are_counted(server: ServerProcess) -> None:
    def counted(path: str) -> dict[str, Any]:
        stats = server.client.get(path).json()["model_stats"]
        return next(one for one in stats if (one["name"], one["version"]) == ("sums", "2"))

    before = counted("/v2/models/stats")["inference_count"]
    server.client.post(INFER, json=body_of(), headers={"x-request-id": "counted"})
    for path in ("/v2/models/stats", "/v2/models/sums/stats", "/v2/models/sums/versions/2/stats"):
        assert counted(path)["inference_count"] == before + 2
    line = server.line_of("counted")
    assert (line["http.route"], line["ml.model.version"], line["ml.rows"]) == (
        "/v2/models/{model}/infer",
        "2",
        2,
    )


def test_challengers_get_their_share_of_tensors_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("canary")
    with stub_server(folder) as started:
        canary(folder / "traffic.yaml", "sums", "3", 100, by="anna")
        while started.client.get("/v1/models/sums").json()["challengers"] != {"3": 100}:
            pass
        assert started.client.post(INFER, json=body_of()).json()["model_version"] == "3"
        champion = started.client.post("/v2/models/sums/versions/champion/infer", json=body_of())
        assert champion.json()["model_version"] == "2"

        canary(folder / "traffic.yaml", "sums", "3", 50, by="anna")
        while started.client.get("/v1/models/sums").json()["challengers"] != {"3": 50}:
            pass
        native = {"rows": [{"a": 1, "b": 2, "how": "well"}]}
        seen = set()
        for number in range(40):
            entity = f"customer {number}"
            body = body_of(parameters={"entity": entity})
            version = started.client.post(INFER, json=body).json()["model_version"]
            same = started.client.post("/v1/models/sums/predict", json={**native, "entity": entity})
            assert version == same.json()["version"]
            seen.add(version)
        assert seen == {"2", "3"}
        assert "entity" in error(
            started.client.post(INFER, json=body_of(parameters={"entity": 7})), 400
        )


def test_shadows_are_asked_what_was_asked_in_tensors(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("shadow")
    differs = 'model_service_shadow_rows_total{model="sums",outcome="differs",version="3"}'
    with stub_server(folder) as started:
        shadow(folder / "traffic.yaml", "sums", "3", by="anna")
        while started.client.get("/v1/models/sums").json()["shadows"] != ["3"]:
            pass
        assert started.client.post(INFER, json=body_of()).json()["model_version"] == "2"
        deadline = time.monotonic() + 60
        while samples(started).get(differs) != 2:
            assert time.monotonic() < deadline


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
TENSORS = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "how"]) | JSON, "shape": st.lists(st.integers()) | JSON},
    optional={
        "datatype": st.sampled_from(["FP64", "BYTES", "INT8", "BOOL"]) | JSON,
        "data": JSON,
        "parameters": JSON,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=3) | JSON}), st.binary(max_size=9)
)
def test_no_body_makes_the_service_fail(
    server: ServerProcess, body: dict[str, Any], after: bytes
) -> None:
    head = json.dumps(body).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    got = server.client.post(INFER, content=head + after, headers=headers)
    assert got.status_code in {200, 400, 413}, got.text
    assert got.status_code == 200 or list(got.json()) == ["error"]
