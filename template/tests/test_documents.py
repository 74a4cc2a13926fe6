"""What is written down is true: contracts, examples, and the OpenAPI document.

What consumers are told holds for the stub, which nobody trained, and for the service alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from model_service.contract.examples import example_rows
from model_service.contract.reading import read_contract
from tests.answers import Asked, Caller, assert_is_an_answer
from tests.found_versions import REPOSITORY, Found


@pytest.mark.parametrize("model", REPOSITORY.model_names())
def test_every_contract_reads_without_a_fault(model: str) -> None:
    contract = read_contract(REPOSITORY.model_folder(model) / "contract.yaml")
    assert contract.name == model


def test_every_example_of_the_contract_is_answered(version: Found, caller: Caller) -> None:
    assert version.contract is not None
    rows = example_rows(version.contract)
    assert rows
    for row, answer in zip(rows, caller.answers(version, rows), strict=True):
        assert "error" not in answer, (row, answer)
        assert_is_an_answer(version.contract, answer)


def test_the_openapi_document_is_valid(asked: Asked) -> None:
    document = asked.client.get("/openapi.json").json()
    assert f"/v1/models/{asked.model}/predict" in document["paths"]
    OpenAPIV31SpecValidator(document).validate()


def test_every_documented_example_is_answered_as_documented(asked: Asked) -> None:
    document = asked.client.get("/openapi.json").json()
    tried = 0
    for path, operation in _predict_operations(document, asked.model):
        for body in _examples(document, operation["requestBody"]):
            response = asked.client.post(path, json=body)
            assert response.status_code == 200, (body, response.text)
            assert not [row for row in response.json()["rows"] if "error" in row], response.text
            _assert_documented(document, operation, response.status_code, response.json())
            tried += 1
    assert tried, f"/openapi.json has no example of a request to {asked.model}"


@pytest.mark.parametrize("body", [{}, {"rows": []}, {"rows": [{}]}, {"rows": [{"@": 1}, 3]}])
def test_errors_and_dirty_rows_are_answered_as_documented(
    asked: Asked, body: dict[str, Any]
) -> None:
    document = asked.client.get("/openapi.json").json()
    for path, operation in _predict_operations(document, asked.model):
        response = asked.client.post(path, json=body)
        assert response.status_code < 500
        _assert_documented(document, operation, response.status_code, response.json())


def test_every_documented_answer_has_the_documented_shape(asked: Asked) -> None:
    document = asked.client.get("/openapi.json").json()
    for _, operation in _predict_operations(document, asked.model):
        for status, described in operation["responses"].items():
            for example in _examples(document, described):
                _assert_documented(document, operation, status, example)


def test_the_stub_promises_what_the_service_keeps(
    champion: Found, stub: Caller, caller: Caller
) -> None:
    folder = REPOSITORY.model_folder(champion.model)
    if not folder.is_dir() or read_contract(folder / "contract.yaml") != champion.contract:
        pytest.skip(f"the contract of {champion.model} in models/ is not the champion's")
    made_up, served = (c.client.get("/openapi.json").json() for c in (stub, caller))
    for document in (made_up, served):
        document["components"] = {
            name: part
            for name, part in document["components"]["schemas"].items()
            if name.startswith(f"{champion.model}.") or "." not in name
        }
    assert made_up["components"] == served["components"]
    for path in [path for path in served["paths"] if f"/models/{champion.model}/" in path]:
        assert made_up["paths"][path] == served["paths"][path]


def _predict_operations(
    document: dict[str, Any], model: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the address and the operation of each way to ask a model for its champion."""
    path = f"/v1/models/{model}/predict"
    yield path, document["paths"][path]["post"]


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    while "$ref" in part:
        names = part["$ref"].removeprefix("#/").split("/")
        part = document
        for name in names:
            part = part[name.replace("~1", "/").replace("~0", "~")]
    return part


def _media(document: dict[str, Any], part: dict[str, Any]) -> list[dict[str, Any]]:
    return list(_resolved(document, part).get("content", {}).values())


def _examples(document: dict[str, Any], part: dict[str, Any]) -> Iterator[Any]:
    for media in _media(document, part):
        if "example" in media:
            yield media["example"]
        for example in media.get("examples", {}).values():
            yield _resolved(document, example)["value"]


def _assert_documented(
    document: dict[str, Any], operation: dict[str, Any], status: int | str, answer: Any
) -> None:
    """The answer has the shape that the document gives to this status."""
    described = operation["responses"]
    found = described.get(str(status), described.get("default"))
    assert found is not None, f"{status} is not among the documented {list(described)}"
    (media,) = _media(document, found)
    # References begin at the root, so that the document itself has to be the schema's root.
    schema = {**document, "allOf": [media["schema"]]}
    faults = [error.message for error in Draft202012Validator(schema).iter_errors(answer)]
    assert not faults, (answer, faults)
