"""The OpenAPI document is valid, says what the contract says, and its examples are true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from model_service.contract.contract import Contract, Feature, Output, Policy
from model_service.contract.openapi import openapi_document
from model_service.contract.openapi_problems import MEDIA_TYPE, PROBLEM_EXAMPLES
from model_service.contract.row_schema import feature_schema, row_schema
from model_service.contract.rows import RowReader
from model_service.serving import problems
from tests.platform.contract.contracts_and_rows import contracts, rows
from tests.platform.serving.server_process import ServerProcess, stub_server

SPECIES = Contract(
    name="penguin_species",
    contract_version="1.2",
    description="Which species a penguin is.",
    features=(
        Feature(
            name="bill_length_mm",
            type="number",
            unit="mm",
            description="Length of the bill",
            minimum=25,
            maximum=70,
            on_missing=Policy("impute", 44.5),
            on_out_of_range=Policy("clip"),
            example=39.1,
        ),
        Feature(
            name="island",
            type="category",
            categories=("Biscoe", "Dream"),
            on_unknown=Policy("pass"),
        ),
        Feature(name="sex", type="category", categories=("f", "m"), on_missing=Policy("pass")),
        Feature(name="year", type="integer", minimum=2000),
    ),
    output=Output(
        name="species",
        type="class",
        meaning="The species.",
        classes=("Adelie", "Gentoo"),
        thresholds={"Gentoo": 0.7},
        decided_by="field-team",
    ),
    examples=(
        {"bill_length_mm": 39.1, "island": "Dream", "sex": "f", "year": 2007},
        {"bill_length_mm": 50, "island": "Biscoe", "sex": None, "year": 2008},
    ),
)
MASS = Contract(
    name="penguin_mass",
    contract_version="1.0",
    description="How heavy a penguin is.",
    features=(Feature(name="a/b~c", type="vector", length=2, minimum=0),),
    output=Output(name="mass", type="number", meaning="Mass", unit="g", minimum=0),
    unknown_fields="ignore",
)
SHAPE = msgspec.structs.replace(
    MASS, name="shape", output=Output(name="s", type="vector", meaning="Shape.", length=3)
)
ALL = (SPECIES, MASS, SHAPE)
METHODS = {"get", "post"}


def document_of(*contracts: Contract, **given: Any) -> dict[str, Any]:
    return openapi_document("Penguins", contracts, **given)


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from (operation for method, operation in path.items() if method in METHODS)


def faults(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    root = {**document, "allOf": [schema]}
    return [error.message for error in Draft202012Validator(root).iter_errors(value)]


def referred(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        _, kind, section, name = part["$ref"].split("/")
        part = document[kind][section][name]
    return part


def has_short_replacement(feature: Feature) -> bool:
    value = feature.on_missing.value
    longest = feature.max_length
    return longest is None or not isinstance(value, str) or len(value) <= longest


@pytest.mark.parametrize("contracts", [(), (SPECIES,), ALL])
def test_the_document_is_valid(contracts: tuple[Contract, ...]) -> None:
    OpenAPIV31SpecValidator(document_of(*contracts, rows_limit=100)).validate()


@settings(max_examples=12, deadline=None)
@given(contracts())
def test_the_document_of_any_contract_is_valid_and_plain_json(contract: Contract) -> None:
    # A contract that is read has no replacement that is too long; a drawn one may.
    assume(all(has_short_replacement(feature) for feature in contract.features))
    document = document_of(contract)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    OpenAPIV31SpecValidator(document).validate()


def test_the_document_is_the_same_for_the_same_contracts() -> None:
    one = json.dumps(document_of(*ALL))
    assert one == json.dumps(document_of(*reversed(ALL)))


def test_no_two_operations_or_schemas_can_meet() -> None:
    names = ["m", "m_version", "m_predict", "predict"]
    document = document_of(*(msgspec.structs.replace(MASS, name=name) for name in names))
    identifiers = [operation["operationId"] for operation in operations(document)]
    assert len(set(identifiers)) == len(identifiers) == 7 + 2 * len(names)
    assert "m.predict" in identifiers
    schemas = [name for name in document["components"]["schemas"] if name.endswith(".Row")]
    assert len(schemas) == len(names)


def test_every_address_of_the_service_is_there() -> None:
    assert set(document_of(SPECIES)["paths"]) == {
        "/v1/ground-truth",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/models/penguin_species/predict",
        "/v1/models/penguin_species/versions/{version}/predict",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
    }


def test_the_row_says_what_the_policies_allow() -> None:
    row = row_schema(SPECIES)
    assert row["required"] == ["island", "year"]
    assert row["additionalProperties"] is False
    bill = row["properties"]["bill_length_mm"]
    assert bill["type"] == ["number", "null"]
    assert "default" not in bill
    assert bill["x-unit"] == "mm"
    assert "minimum" not in bill
    assert "25 to 70" in bill["description"]
    assert "enum" not in row["properties"]["island"]
    assert "Biscoe, Dream" in row["properties"]["island"]["description"]
    assert row["properties"]["sex"]["enum"] == ["f", "m", None]
    assert row["properties"]["year"]["minimum"] == 2000
    assert row_schema(MASS)["additionalProperties"] is True


def test_the_request_has_its_limits() -> None:
    schemas = document_of(SPECIES, rows_limit=7)["components"]["schemas"]
    assert schemas["penguin_species.Request"]["properties"]["rows"]["maxItems"] == 7
    document = document_of(SPECIES)
    schema = {"$ref": "#/components/schemas/penguin_species.Request"}
    assert faults(document, schema, {"rows": []})
    assert faults(document, schema, {"rows": [{}]})
    assert faults(document, schema, {"row": [SPECIES.examples[0]]})
    for entity, refused in (("a", False), (None, False), ("x" * 256, False), ("x" * 257, True)):
        body = {"rows": [SPECIES.examples[0]], "entity": entity}
        assert bool(faults(document, schema, body)) == refused


def simpler_than_the_truth(contract: Contract, row: dict[str, Any]) -> bool:
    """Whether the schema leaves something to the contract: "" for missing, dates, huge numbers."""
    for feature in contract.features:
        value = row.get(feature.name)
        if feature.type == "datetime" or (feature.is_text and value == ""):
            return True
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(n, int | float) and abs(n) > 2**53 for n in numbers):
            return True
    return False


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_schema_and_the_contract_agree_on_every_row(data: st.DataObject) -> None:
    contract = data.draw(contracts())
    row = data.draw(rows(contract))
    if simpler_than_the_truth(contract, row):
        return
    accepted = bool(RowReader(contract).read_rows([row]).values)
    assert Draft202012Validator(row_schema(contract)).is_valid(row) == accepted


@pytest.mark.parametrize("value", ["", None, "2026-01-31", 3])
def test_a_date_is_required_as_text(value: Any) -> None:
    schema = feature_schema(Feature(name="d", type="datetime"))
    assert schema["format"] == "date-time"
    assert Draft202012Validator(schema).is_valid(value) == isinstance(value, str)


@pytest.mark.parametrize("contract", ALL, ids=lambda contract: contract.name)
def test_every_example_of_a_request_is_answered(contract: Contract) -> None:
    document = document_of(contract)
    operation = document["paths"][f"/v1/models/{contract.name}/predict"]["post"]
    media = operation["requestBody"]["content"]["application/json"]
    assert media["examples"]
    for example in media["examples"].values():
        assert not faults(document, media["schema"], example["value"])
        read = RowReader(contract).read_rows(example["value"]["rows"])
        assert not read.faults


@pytest.mark.parametrize("contract", ALL, ids=lambda contract: contract.name)
def test_every_example_of_an_answer_has_its_shape(contract: Contract) -> None:
    document = document_of(contract)
    tried = 0
    for operation in operations(document):
        for response in operation["responses"].values():
            for media in referred(document, response)["content"].values():
                named = [example["value"] for example in media.get("examples", {}).values()]
                for value in named + ([media["example"]] if "example" in media else []):
                    assert not faults(document, media["schema"], value)
                    tried += 1
    assert tried > 2 * len(PROBLEM_EXAMPLES)


def test_the_examples_show_a_warning_and_a_refused_row() -> None:
    post = document_of(SPECIES)["paths"]["/v1/models/penguin_species/predict"]["post"]
    answers = post["responses"]["200"]["content"]["application/json"]["examples"]
    (row,) = answers["a_missing_value"]["value"]["rows"]
    assert row["warnings"][0]["action"] == "impute"
    assert "44.5" in row["warnings"][0]["message"]
    answered, refused = answers["one_row_refused"]["value"]["rows"]
    assert answered["value"] == "Gentoo" or answered["probabilities"]["Gentoo"] < 0.7
    assert refused["error"]["faults"][0]["pointer"] == "/rows/1/bill_length_mm"
    assert refused["error"]["faults"][0]["code"] == "wrong_type"


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "another"},
        {"rows": [{}]},
        {"rows": [{"prediction_id": "1", "value": "Emperor", "probabilities": {}, "warnings": []}]},
        {"rows": [{"error": {"type": "x"}}]},
        {"alias": 3},
    ],
)
def test_a_wrong_answer_does_not_fit_the_document(wrong: dict[str, Any]) -> None:
    document = document_of(SPECIES)
    post = document["paths"]["/v1/models/penguin_species/predict"]["post"]
    media = post["responses"]["200"]["content"]["application/json"]
    right = media["examples"]["one_row"]["value"]
    assert not faults(document, media["schema"], right)
    assert faults(document, media["schema"], {**right, **wrong})


def test_predicting_may_fail_in_each_way_that_the_service_knows() -> None:
    statuses = {kind.status for kind in problems.PROBLEMS.values()}
    assert set(PROBLEM_EXAMPLES) == statuses
    post = document_of(SPECIES)["paths"]["/v1/models/penguin_species/predict"]["post"]
    assert {int(status) for status in post["responses"]} == statuses | {200}


def test_the_examples_of_problems_stand_in_the_catalogue() -> None:
    assert problems.MEDIA_TYPE.decode() == MEDIA_TYPE
    for status, example in PROBLEM_EXAMPLES.items():
        kind = problems.PROBLEMS[example.slug]
        assert (kind.status, kind.title) == (status, example.title)
    responses = document_of(SPECIES)["components"]["responses"]
    body = responses["RowsRejected"]["content"][MEDIA_TYPE]["example"]
    assert body["type"] == problems.type_of("rows-rejected")
    assert set(body) == {*msgspec.structs.asdict(problems.Problem("", "", 0, "", ""))}
    assert "Retry-After" in responses["TooManyRequests"]["headers"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with stub_server(tmp_path_factory.mktemp("documented"), broken=True) as running:
        yield running


def assert_documented(document: dict[str, Any], operation: Any, answer: httpx.Response) -> None:
    """Assert that status, media type, headers and body of an answer stand in the document."""
    described = referred(document, operation["responses"][str(answer.status_code)])
    media_type = answer.headers["content-type"].partition(";")[0]
    assert "X-Request-Id" in described["headers"]
    assert answer.headers["x-request-id"]
    body = answer.text if media_type == "text/plain" else answer.json()
    assert not faults(document, described["content"][media_type]["schema"], body), body


@pytest.mark.parametrize("template", ["/v1/models", "/v1/models/{model}", "/livez", "/readyz",
                                      "/openapi.json"])  # fmt: skip
@pytest.mark.parametrize("model", ["sums", "nobody"])
def test_what_the_service_says_of_itself_is_documented(
    server: ServerProcess, template: str, model: str
) -> None:
    document = server.client.get("/openapi.json").json()
    operation = document["paths"][template]["get"]
    assert_documented(document, operation, server.client.get(template.format(model=model)))


def test_readiness_is_documented(tmp_path: Path) -> None:
    with stub_server(tmp_path) as ready:
        document = ready.client.get("/openapi.json").json()
        answer = ready.client.get("/readyz")
    assert answer.status_code == 200
    assert_documented(document, document["paths"]["/readyz"]["get"], answer)


GOOD: dict[str, Any] = {"a": 1.5, "b": 2, "how": "well"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"rows": [GOOD, {**GOOD, "a": 3}], "entity": "customer 7"}, 200),
        ({"rows": [{**GOOD, "a": 7000}, {**GOOD, "a": "x"}, {**GOOD, "how": "raise"}]}, 200),
        ({"rows": [{**GOOD, "a": None}]}, None),
        ({"rows": [{**GOOD, "a": "x", "c/d~": 1}]}, 422),
        ({"rows": [3]}, 422),
        ({"rows": []}, 400),
        ([], 400),
        ({"rows": [{**GOOD, "how": "raise"}]}, 500),
    ],
)
@pytest.mark.parametrize("model", ["sums", "kinds"])
def test_real_answers_have_the_documented_shape(
    server: ServerProcess, model: str, body: Any, status: int | None
) -> None:
    document = server.client.get("/openapi.json").json()
    path = f"/v1/models/{model}/predict"
    answer = server.client.post(path, json=body)
    assert status in (None, answer.status_code), answer.text
    assert_documented(document, document["paths"][path]["post"], answer)
    if answer.status_code == 200:
        path = f"/v1/models/{model}/versions/{{version}}/predict"
        operation = document["paths"][path]["post"]
        for version in (answer.json()["version"], "champion", "99"):
            by_version = server.client.post(path.format(version=version), json=body)
            assert by_version.status_code == (404 if version == "99" else 200)
            assert_documented(document, operation, by_version)


def test_a_refused_media_type_is_documented(server: ServerProcess) -> None:
    document = server.client.get("/openapi.json").json()
    path = "/v1/models/sums/predict"
    answer = server.client.post(path, content="a=1", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert_documented(document, document["paths"][path]["post"], answer)
