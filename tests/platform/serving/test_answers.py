"""Each row of a request gets its answer, and what was asked is told apart by what was resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from model_service.contract.openapi_problems import PROBLEM_EXAMPLES
from model_service.serving.problems import PROBLEMS
from model_service.serving.row_answers import in_order, shares_of
from tests.platform.serving.server_process import ServerProcess, stub_server

GOOD = {"a": 1.5, "b": 2, "how": "well"}
SUMS = "/v1/models/sums/predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with stub_server(tmp_path_factory.mktemp("stub")) as running:
        yield running


def ask(server: ServerProcess, *rows: Any, path: str = SUMS, **headers: str) -> httpx.Response:
    return server.client.post(path, json={"rows": rows}, headers=headers)


def samples(server: ServerProcess) -> dict[str, float]:
    lines = server.client.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_an_answer_says_which_version_gave_it(server: ServerProcess) -> None:
    answer = ask(server, GOOD).json()
    assert (answer["model"], answer["version"], answer["alias"]) == ("sums", "2", "champion")
    assert answer["rows"][0]["value"] == 3.5
    assert answer["rows"][0]["warnings"] == []
    assert "probabilities" not in answer["rows"][0]
    for wanted, version, alias in (
        ("1", "1", None),
        ("2", "2", None),
        ("champion", "2", "champion"),
    ):
        answer = ask(server, GOOD, path=f"/v1/models/sums/versions/{wanted}/predict").json()
        assert (answer["version"], answer["alias"]) == (version, alias)


def test_a_class_comes_with_its_probabilities(server: ServerProcess) -> None:
    answer = ask(server, {**GOOD, "a": 75}, path="/v1/models/kinds/predict").json()
    assert answer["rows"][0]["value"] == "large"
    assert answer["rows"][0]["probabilities"] == {"small": 0.25, "large": 0.75}


def test_one_bad_row_costs_its_neighbours_nothing(server: ServerProcess) -> None:
    answer = ask(server, GOOD, {**GOOD, "a": "x"}, {**GOOD, "how": "raise"}, {**GOOD, "a": 3})
    assert answer.status_code == 200
    first, refused, failed, last = answer.json()["rows"]
    assert (first["value"], last["value"]) == (3.5, 5)
    assert refused["error"]["type"] == "/docs#problem-rows-rejected"
    assert refused["error"]["faults"][0]["pointer"] == "/rows/1/a"
    assert failed["error"]["type"] == "/docs#problem-model-failed"
    assert failed["error"]["faults"][0]["pointer"] == "/rows/2"
    assert "value" not in refused


def test_a_policy_that_acts_is_told_on_its_row(server: ServerProcess) -> None:
    clean, dirty = ask(server, GOOD, {"a": 900, "how": "new"}).json()["rows"]
    assert clean["warnings"] == []
    assert dirty["value"] == 101
    told = [(w["feature"], w["problem"], w["action"]) for w in dirty["warnings"]]
    assert told == [
        ("a", "out_of_range", "clip"),
        ("b", "missing", "impute"),
        ("how", "unknown_category", "map_to"),
    ]


def test_a_safe_request_id_comes_back_and_another_is_replaced(server: ServerProcess) -> None:
    answer = ask(server, GOOD, **{"x-request-id": "order-17:a_b.c"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-17:a_b.c"
    for unsafe in ("a b", "x" * 129, "<script>", '"', "-leading"):
        answer = ask(server, GOOD, **{"x-request-id": unsafe})
        made = answer.headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", made)
        assert answer.json()["request_id"] == made
    assert (
        server.client.get("/livez", headers={"x-request-id": "k1"}).headers["x-request-id"] == "k1"
    )


def test_prediction_ids_are_never_given_twice(server: ServerProcess, tmp_path: Path) -> None:
    rows = [row for _ in range(3) for row in ask(server, *[GOOD] * 20).json()["rows"]]
    with stub_server(tmp_path) as other:
        rows += ask(other, *[GOOD] * 20).json()["rows"]
    assert len({row["prediction_id"] for row in rows}) == 80


def test_many_callers_at_once_each_get_their_own_answer(server: ServerProcess) -> None:
    def one(number: int) -> tuple[int, float]:
        row = {"a": number % 100, "b": number, "how": "well"}
        return number % 100 + number, ask(server, row).json()["rows"][0]["value"]

    with ThreadPoolExecutor(16) as callers:
        assert all(wanted == got for wanted, got in callers.map(one, range(400)))


def test_a_large_request_is_answered_in_order(server: ServerProcess) -> None:
    rows = [{"a": 1, "b": number, "how": "well"} for number in range(10_000)]
    answered = ask(server, *rows).json()["rows"]
    assert [row["value"] for row in answered] == [number + 1 for number in range(10_000)]


def test_models_are_listed_with_their_versions_aliases_and_states(server: ServerProcess) -> None:
    models = {m["model"]: m for m in server.client.get("/v1/models").json()["models"]}
    assert models["sums"]["state"] == "ready"
    states = {v["version"]: v["state"] for v in models["sums"]["versions"]}
    assert states.pop("1") == states.pop("2") == "ready"
    assert set(states.values()) == {"not_served"}
    assert models["untrained"]["state"] == "untrained"
    assert "stub train untrained" in models["untrained"]["reason"]
    assert server.client.get("/v1/models/sums").json() == models["sums"]


def test_what_happens_is_counted_under_the_resolved_version(server: ServerProcess) -> None:
    before = samples(server)
    dirty = {"a": 900, "b": None, "how": "well", "<invented>": 1}
    ask(server, GOOD, {"a": 900, "b": None, "how": "new"}, dirty, {**GOOD, "how": "raise"})
    server.client.post("/v1/models/invented/predict", json={"rows": [GOOD]})
    server.client.get("/invented")
    after = samples(server)
    version = 'model="sums",outcome="{}",version="2"'

    def grown(name: str, labels: str) -> float:
        key = f"model_service_{name}{{{labels}}}"
        return after[key] - before.get(key, 0)

    assert grown("predictions_total", version.format("ok")) == 2
    assert grown("predictions_total", version.format("invalid_input")) == 1
    assert grown("predictions_total", version.format("model_error")) == 1
    problem = 'feature="{}",model="sums",problem="{}",version="2"'
    assert grown("input_problems_total", problem.format("a", "out_of_range")) >= 1
    assert grown("input_problems_total", problem.format("how", "unseen")) == 1
    assert grown("input_problems_total", problem.format("unknown", "unknown_field")) == 1
    assert grown("prediction_duration_seconds_count", 'model="sums",version="2"') == 1
    assert after['model_service_version_state{model="sums",state="ready",version="2"}'] == 1
    assert not [name for name in after if "invented" in name]


def test_each_request_is_one_log_line_without_a_value_of_a_feature(server: ServerProcess) -> None:
    rows = [{"a": 77.125, "b": 2, "how": "raise"}, {"a": 77.125, "b": 3, "how": "well"}]
    ask(server, *rows, **{"x-request-id": "logged-1"})
    line = server.line_of("logged-1")
    assert line["ml.model.name"] == "sums"
    assert line["ml.model.version"] == "2"
    assert line["ml.model.alias"] == "champion"
    assert line["ml.outcome"] == "partial"
    assert line["ml.rows"] == 2
    assert line["http.response.status_code"] == 200
    assert line["severity_text"] == "INFO"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    assert line["duration_ms"] > 0
    failed = [entry for entry in server.log if entry["body"].startswith("prediction failed")]
    assert failed[-1]["error.type"] == "ValueError"
    assert "77.125" not in str(server.log)


def test_the_documentation_needs_no_network_and_has_every_model(server: ServerProcess) -> None:
    page = server.client.get("/docs").text
    for model in ("sums", "kinds", "untrained"):
        assert f'id="model-{model}"' in page
    for told in (
        "moved to the limit",
        "replaced by 1.0",
        "taken as well",
        "/v1/models/sums/predict",
    ):
        assert told in page
    assert not re.findall(r'(?:src|href)="(?!/|#|data:)', page)
    assert "/docs" in server.client.get("/").text


def test_the_openapi_document_describes_every_model_that_answers(server: ServerProcess) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for model in ("sums", "kinds"):
        assert any(f"/{model}/predict" in path for path in document["paths"])


def test_the_openapi_document_and_the_service_tell_the_same_of_errors() -> None:
    assert PROBLEM_EXAMPLES
    for status, example in PROBLEM_EXAMPLES.items():
        assert (PROBLEMS[example.slug].status, PROBLEMS[example.slug].title) == (
            status,
            example.title,
        )
    assert {kind.status for kind in PROBLEMS.values()} == set(PROBLEM_EXAMPLES)


@pytest.mark.parametrize("classes", [("no", "yes"), ('a "b"', "c\\d", "e\n"), ("é", " ", "class")])
def test_probabilities_are_an_object_by_class_whatever_the_classes_are_called(
    classes: tuple[str, ...],
) -> None:
    given = [0.25 * place for place in range(len(classes))]
    shares = shares_of(classes)(*given)
    assert msgspec.json.decode(msgspec.json.encode(shares)) == dict(
        zip(classes, given, strict=True)
    )
    reverse = given[::-1]
    assert in_order([shares, shares_of(classes)(*reverse)]).tolist() == [given, reverse]
    assert in_order([]).size == 0
