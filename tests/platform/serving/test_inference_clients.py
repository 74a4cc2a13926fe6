"""What clients of the Open Inference Protocol do in practice: each real call of tritonclient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.platform.serving.server_process import ServerProcess, stub_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with stub_server(tmp_path_factory.mktemp("stub")) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield made
    made.close()


def inputs(*, binary: bool) -> list[Any]:
    given = {
        "a": ("FP64", np.array([10.0, 90.0])),
        "b": ("FP32", np.array([2.0, 3.0], dtype=np.float32)),
        "how": ("BYTES", np.array(["well", "well"], dtype=object)),
    }
    tensors = []
    for name, (datatype, array) in given.items():
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        tensors.append(tensor)
    return tensors


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums")
    assert client.is_model_ready("sums", "champion")
    assert not client.is_model_ready("sums", "77")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "stub"
    assert client.get_model_metadata("sums", "2")["inputs"][2]["datatype"] == "BYTES"


def test_repository_and_statistics(client: Any) -> None:
    index = client.get_model_repository_index()
    assert {one["state"] for one in index} == {"READY"}
    client.load_model("sums")
    with pytest.raises(InferenceServerException, match=r"traffic\.yaml"):
        client.unload_model("sums")
    assert len(client.get_inference_statistics()["model_stats"]) == 3
    assert client.get_inference_statistics("sums", "2")["model_stats"][0]["version"] == "2"


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model_version": "1"},
        {"model_version": "champion"},
        {"request_id": "mine"},
        {"request_compression_algorithm": "gzip"},
        {"request_compression_algorithm": "deflate"},
        {"response_compression_algorithm": "gzip"},
        {"priority": 1, "timeout": 1_000_000},
    ],
    ids=str,
)
def test_an_answer_is_the_same_by_every_way(
    client: Any, options: dict[str, Any], binary: bool
) -> None:
    answer = client.infer("sums", inputs(binary=binary), **options)
    assert answer.as_numpy("sum").tolist() == [12.0, 93.0]
    assert answer.get_response()["model_version"] == (
        "1" if options.get("model_version") == "1" else "2"
    )
    if "request_id" in options:
        assert answer.get_response()["id"] == "mine"


@pytest.mark.parametrize("binary", [True, False])
def test_texts_and_tables_come_back(client: Any, binary: bool) -> None:
    wanted = [
        triton.InferRequestedOutput(name, binary_data=binary) for name in ("kind", "probabilities")
    ]
    answer = client.infer("kinds", inputs(binary=True), outputs=wanted)
    kinds = [str(k, "utf-8") if isinstance(k, bytes) else k for k in answer.as_numpy("kind")]
    assert kinds == ["small", "large"]
    assert answer.as_numpy("probabilities") == pytest.approx(np.array([[0.9, 0.1], [0.1, 0.9]]))


def test_an_error_has_words_that_the_client_can_read(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="No model has that name"):
        client.infer("nobody", inputs(binary=True))
    strange = triton.InferInput("z", [2], "FP64")
    strange.set_data_from_numpy(np.array([1.0, 2.0]))
    with pytest.raises(InferenceServerException, match="no input of this model"):
        client.infer("sums", [*inputs(binary=True), strange])
