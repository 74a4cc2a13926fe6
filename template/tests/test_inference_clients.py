"""Triton's own client is answered as everybody else, for every model, version and alias."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.http as triton

from tests.answers import Caller
from tests.found_versions import Found
from tests.tensors import answered_here, assert_same_tensors, tensors_of, whole_rows


@pytest.fixture(scope="module")
def client(caller: Caller) -> Iterator[Any]:
    """A client of the running server."""
    with triton.InferenceServerClient(caller.client.base_url.netloc.decode()) as made:
        yield made


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tritonclient_gets_what_the_version_predicts(
    address: tuple[Found, str], client: Any, binary: bool
) -> None:
    version, suffix = address
    assert version.contract is not None
    asked = suffix.removeprefix("/versions/")
    rows = whole_rows(version)
    inputs = []
    for tensor in tensors_of(version, rows):
        given = triton.InferInput(tensor.name, list(tensor.values.shape), tensor.datatype)
        given.set_data_from_numpy(tensor.values, binary_data=binary)
        inputs.append(given)
    answer = client.infer(version.model, inputs, model_version=asked)
    told = answer.get_response()
    assert (told["model_name"], told["model_version"]) == (version.model, version.version)
    answered = {one["name"]: answer.as_numpy(one["name"]) for one in told["outputs"]}
    assert_same_tensors(version.contract, answered_here(version, rows), answered)
    assert client.is_model_ready(version.model, asked)
    metadata = client.get_model_metadata(version.model, asked)
    assert [one["name"] for one in metadata["inputs"]] == list(version.contract.feature_names)
