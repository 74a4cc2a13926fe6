"""KServe's own client is answered as everybody else, for every model, version and alias."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

from tests.answers import Caller
from tests.found_versions import Found
from tests.tensors import answered_here, assert_same_tensors, tensors_of, whole_rows

pytestmark = pytest.mark.conformance


def client() -> Any:
    """Return a client of the protocol; its own default is an older one."""
    return InferenceRESTClient(RESTConfig(protocol="v2"))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_kserve_gets_what_the_version_predicts(
    address: tuple[Found, str], caller: Caller, binary: bool
) -> None:
    version, suffix = address
    assert version.contract is not None
    rows = whole_rows(version)
    inputs = []
    for tensor in tensors_of(version, rows):
        given = InferInput(tensor.name, list(tensor.values.shape), tensor.datatype)
        given.set_data_from_numpy(tensor.values, binary_data=binary)
        inputs.append(given)
    # The client knows models only; a version or an alias is a part of the path.
    name = f"{version.model}{suffix}"
    parameters = {"binary_data_output": binary}
    request = InferRequest(name, inputs, parameters=parameters)
    answer = asyncio.run(client().infer(str(caller.client.base_url), request, model_name=name))
    assert answer.model_name == version.model
    answered = {one.name: np.array(one.as_numpy()) for one in answer.outputs}
    assert_same_tensors(version.contract, answered_here(version, rows), answered)


def test_kserve_is_told_that_servers_and_models_are_ready(champion: Found, caller: Caller) -> None:
    async def told() -> list[bool]:
        url, asks = str(caller.client.base_url), client()
        return [
            await asks.is_server_live(url),
            await asks.is_server_ready(url),
            await asks.is_model_ready(url, champion.model),
        ]

    assert asyncio.run(told()) == [True, True, True]
