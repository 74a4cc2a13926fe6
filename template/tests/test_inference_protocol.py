"""Clients that speak tensors (Open Inference Protocol) get the same answers as everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from model_service.contract.contract import Feature
from model_service.registry.golden import GoldenPrediction, is_same
from model_service.registry.loaded_version import load_version
from model_service.serving.inference_protocol.tensors import datatype_of
from tests.answers import Caller
from tests.found_versions import Found


def tensor_of(feature: Feature, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a feature of all rows as one tensor; what is missing is named beside the data."""
    missing = [row for row, values in enumerate(rows) if values.get(feature.name) is None]
    width = feature.length or 1
    if feature.type == "vector":
        data: list[Any] = [row.get(feature.name) or [0] * width for row in rows]
    else:
        data = [row.get(feature.name) for row in rows]
    return {
        "name": feature.name,
        "shape": [len(rows), width] if feature.type == "vector" else [len(rows)],
        "datatype": datatype_of(feature.type),
        "data": data,
        "parameters": {"missing": ",".join(map(str, missing))},
    }


def infer(caller: Caller, path: str, golden: Sequence[GoldenPrediction], version: Found) -> Any:
    """Send the golden rows as tensors."""
    assert version.contract is not None
    rows = [one.row for one in golden]
    inputs = [tensor_of(feature, rows) for feature in version.contract.features]
    return caller.client.post(f"/v2/models/{path}/infer", json={"inputs": inputs})


def check_answers(answer: Any, golden: Sequence[GoldenPrediction], version: Found) -> None:
    """The tensors of an answer hold the golden predictions."""
    assert answer.status_code == 200, answer.text
    assert (answer.json()["model_name"], answer.json()["model_version"]) == (
        version.model,
        version.version,
    )
    outputs = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    assert version.contract is not None
    output = version.contract.output
    values = outputs[output.name]
    if output.type == "vector":
        width = output.length or 1
        values = [values[at : at + width] for at in range(0, len(values), width)]
    for row, (expected, value) in enumerate(zip(golden, values, strict=True)):
        assert is_same(expected.value, value), (expected, value)
        for place, (label, share) in enumerate((expected.probabilities or {}).items()):
            assert label == output.classes[place]
            given = outputs["probabilities"][row * len(output.classes) + place]
            assert is_same(share, given), (expected, label, given)


def test_the_golden_rows_are_answered_the_same_as_tensors(version: Found, caller: Caller) -> None:
    golden = load_version(version.folder).golden
    path = f"{version.model}/versions/{version.version}"
    check_answers(infer(caller, path, golden, version), golden, version)


@pytest.mark.parametrize("suffix", ["", "/versions/champion"], ids=["no_version", "alias"])
def test_the_champion_answers_by_its_alias_and_without_a_version(
    champion: Found, caller: Caller, suffix: str
) -> None:
    golden = load_version(champion.folder).golden
    answer = infer(caller, f"{champion.model}{suffix}", golden, champion)
    check_answers(answer, golden, champion)


def test_metadata_name_every_feature_and_output(champion: Found, caller: Caller) -> None:
    assert champion.contract is not None
    described = caller.client.get(f"/v2/models/{champion.model}").json()
    assert [one["name"] for one in described["inputs"]] == list(champion.contract.feature_names)
    assert described["outputs"][0]["name"] == champion.contract.output.name
    assert champion.version in described["versions"]
