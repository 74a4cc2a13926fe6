"""What really happened, told to a running service."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from model_service.prediction_log.sqlite_database import FILE
from model_service.prediction_log.store import PredictionStore, open_store
from model_service.serving.ground_truth_endpoint import MOST_WAITING
from tests.platform.serving.server_process import ServerProcess, stub_server
from tests.platform.serving.test_prediction_log import ALWAYS, SERVICE, ask, logged

ROW = {"a": 1, "b": 2, "how": "well"}
PERSON = {"customer": 7, "email": "x", "town": "Ulm", "age": 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truths")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with stub_server(folder, script=SERVICE, limits={"rows_per_request": 50}) as started:
        yield started


@pytest.fixture
def store(folder: Path) -> Iterator[PredictionStore]:
    opened = open_store("prediction_log", folder)
    yield opened
    opened.close()


def tell(server: ServerProcess, *truths: Any) -> Any:
    answer = server.client.post("/v1/ground-truth", json={"ground_truth": truths})
    assert answer.status_code == 200, answer.text
    return answer.json()


def results(answer: Any) -> list[str]:
    return [one["result"] for one in answer["ground_truth"]]


def truths_of(store: PredictionStore, model: str) -> dict[str, Any]:
    return {row.prediction_id: value for row, value in store.joined(model, None, *ALWAYS)}


def answered(server: ServerProcess, store: PredictionStore, row: Any, model: str) -> str:
    prediction_id: str = ask(server, row, model=model)["rows"][0]["prediction_id"]
    logged(store, prediction_id)
    return prediction_id


def test_truth_is_matched_repeated_and_corrected(
    server: ServerProcess, store: PredictionStore
) -> None:
    one = answered(server, store, ROW, "sums")

    first = tell(server, {"prediction_id": one, "value": 4})
    assert first == {
        "matched": 1,
        "repeated": 0,
        "corrected": 0,
        "unknown": 0,
        "refused": 0,
        "ground_truth": [{"result": "matched"}],
    }
    assert results(tell(server, {"prediction_id": one, "value": 4.0})) == ["repeated"]
    assert results(tell(server, {"prediction_id": one, "value": 5})) == ["corrected"]
    assert truths_of(store, "sums")[one] == 5.0


def test_truth_of_an_unknown_prediction_is_reported_and_kept(
    server: ServerProcess, store: PredictionStore
) -> None:
    assert results(tell(server, {"prediction_id": "nobody-1", "value": 4})) == ["unknown"]

    from tests.platform.prediction_log.logged import logged as row

    store.append([row(1, prediction_id="nobody-1", model="sums")])
    assert truths_of(store, "sums")["nobody-1"] == 4


def test_truth_of_a_model_that_does_not_answer_now_is_kept(
    server: ServerProcess, store: PredictionStore
) -> None:
    from tests.platform.prediction_log.logged import logged as row

    store.append([row(1, prediction_id="out-1", model="out")])
    assert results(tell(server, {"prediction_id": "out-1", "value": "leaves"})) == ["matched"]
    assert truths_of(store, "out") == {"out-1": "leaves"}


def test_truth_is_told_by_the_features_that_identify_a_row_and_a_time(
    server: ServerProcess, store: PredictionStore
) -> None:
    early = answered(server, store, PERSON, "people")
    between = time.time()
    late = answered(server, store, PERSON, "people")

    key = {"model": "people", "key": {"customer": 7}}
    told = tell(server, {**key, "value": "stays", "at": between}, {**key, "value": "leaves"})

    assert results(told) == ["matched", "matched"]
    assert truths_of(store, "people") == {early: "stays", late: "leaves"}
    before = {**key, "value": "stays", "at": "2001-01-01T00:00:00Z"}
    assert results(tell(server, before)) == ["unknown"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"prediction_id": "KNOWN", "value": "maybe"}, "one of stays, leaves"),
        ({"prediction_id": "KNOWN", "value": 1}, "one of stays, leaves"),
        ({"prediction_id": "KNOWN"}, '"value"'),
        ({"prediction_id": "x-1", "value": None}, "text, a number"),
        ({"prediction_id": "x-1", "value": "x" * 5000}, "at most 4096 characters"),
        ({"prediction_id": "x-1", "value": [0.5] * 5000}, "at most 4096 characters"),
        ({"prediction_id": "x-1", "value": [[[1]]]}, "a number"),
        ({"prediction_id": "x-1", "value": 10**400}, "a number"),
        ({"prediction_id": "x-1", "value": True}, "text, a number"),
        ({"prediction_id": "x\u0000", "value": 1}, "prediction_id"),
        ({"prediction_id": 5, "value": 1}, "prediction_id"),
        ({"value": 1}, 'by "prediction_id", or by'),
        ({"prediction_id": "x-1", "value": 1, "tome": 3}, "'tome' is no field"),
        ({"prediction_id": "x-1", "model": "nothing", "value": 1}, "no such model"),
        ({"prediction_id": "x-1", "model": "sums", "value": True}, "a number"),
        ({"prediction_id": "x-1", "model": "sums", "value": 10**400}, "a number"),
        ({"prediction_id": "x-1", "value": 1, "at": "2001-01-01"}, "with its offset"),
        ({"model": "people", "key": {"age": 3}, "value": "stays"}, "made of customer"),
        ({"model": "people", "key": {"customer": "x"}, "value": "stays"}, "whole number"),
        ({"model": "sums", "key": {"a": 3}, "value": 1}, "ground_truth.key"),
        ("x", "An entry is an object"),
    ],
)
def test_a_bad_entry_is_refused_and_costs_the_others_nothing(
    server: ServerProcess, store: PredictionStore, entry: Any, said: str
) -> None:
    known = answered(server, store, PERSON, "people")
    if isinstance(entry, dict) and entry.get("prediction_id") == "KNOWN":
        entry = {**entry, "prediction_id": known}

    answer = tell(server, entry, {"prediction_id": known, "value": "stays"})

    assert results(answer) == ["refused", "matched"]
    assert said in answer["ground_truth"][0]["message"]


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"{", 400, "invalid-json"),
        (b"[]", 400, "invalid-request"),
        (b'{"ground_truth": []}', 400, "invalid-request"),
        (b'{"ground_truth": [1], "more": 2}', 400, "invalid-request"),
        (b'{"ground_truth": [%s]}' % b", ".join([b"1"] * 51), 413, "too-many-rows"),
        (b'{"ground_truth": [1, 2]}', 422, "rows-rejected"),
    ],
)
def test_what_holds_no_truth_at_all_is_a_problem(
    server: ServerProcess, body: bytes, status: int, slug: str
) -> None:
    answer = server.client.post("/v1/ground-truth", content=body)
    assert answer.status_code == status
    assert answer.json()["type"] == f"/docs#problem-{slug}"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_log_that_cannot_be_reached_asks_to_send_again(tmp_path: Path) -> None:
    place = "postgresql://anna:geheim@127.0.0.1:1/log"
    with stub_server(tmp_path, stores={"prediction_log": place}) as server:
        truths = {"ground_truth": [{"prediction_id": "a-1", "value": 1}]}
        answer = server.client.post("/v1/ground-truth", json=truths)
    assert answer.status_code == 503
    assert answer.json()["type"] == "/docs#problem-log-unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert "geheim" not in answer.text + str(server.log) + "".join(server.told)


def test_truth_that_a_slow_log_cannot_take_waits_for_nobody(tmp_path: Path) -> None:
    with stub_server(tmp_path) as server, ThreadPoolExecutor(MOST_WAITING + 5) as callers:
        path = "/v1/ground-truth"
        truths = {"ground_truth": [{"prediction_id": "a-1", "value": 1}]}
        assert server.client.post(path, json=truths).status_code == 200
        log = sqlite3.connect(tmp_path / "prediction_log" / FILE, isolation_level=None)
        log.execute("BEGIN IMMEDIATE")
        waiting = {
            callers.submit(server.client.post, path, json=truths, timeout=60)
            for _ in range(MOST_WAITING + 5)
        }
        refused = set(islice(as_completed(waiting, 60), 5))
        for answer in (one.result() for one in refused):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "Too much ground truth" in answer.json()["detail"]
        assert ask(server, ROW)["rows"][0]["value"] == 3.0
        log.execute("ROLLBACK")
        assert {one.result().status_code for one in waiting - refused} == {200}
        log.close()
