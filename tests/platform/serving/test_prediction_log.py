"""What a running service writes into the prediction log, and what it never lets a caller feel."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model_service.drift.counts import Counts, block_of, merge
from model_service.prediction_log.records import LoggedRow
from model_service.prediction_log.store import PredictionStore, open_store
from model_service.registry.traffic import canary, shadow
from tests.platform.postgresql_server import postgresql_server
from tests.platform.prediction_log.logged import logged as log_row
from tests.platform.serving.server_process import ServerProcess, stub_server

SERVICE = Path(__file__).with_name("logging_service.py")
ROW = {"a": 1, "b": 2, "how": "well"}
ALWAYS = (0.0, 1e12)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with stub_server(tmp_path, script=SERVICE) as started:
        yield started


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PredictionStore]:
    opened = open_store("prediction_log", tmp_path)
    yield opened
    opened.close()


def wait_for(
    condition: Callable[[], bool], what: str, seconds: float = 60.0, pause: float = 0.05
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}"
        time.sleep(pause)


def ask(server: ServerProcess, *rows: Any, model: str = "sums", **body: Any) -> Any:
    path = f"/v1/models/{model}/predict"
    return server.client.post(path, json={"rows": rows, **body}).json()


def logged(store: PredictionStore, prediction_id: str) -> LoggedRow:
    """Return a row of the log, once it is there."""
    wait_for(lambda: store.find(prediction_id) is not None, f"{prediction_id} is logged")
    found = store.find(prediction_id)
    assert found is not None
    return found


def metric(server: ServerProcess, line: str) -> float:
    for found in server.client.get("/metrics").text.splitlines():
        if found.startswith(f"model_service_{line} "):
            return float(found.rpartition(" ")[2])
    return 0.0


def test_an_answered_row_is_logged_as_it_was_sent_and_as_it_was_used(
    server: ServerProcess, store: PredictionStore
) -> None:
    before = time.time()
    answer = ask(server, ROW, {"a": 500, "how": "new"}, {"b": "x"}, model="kinds")

    clean, mended = (logged(store, row["prediction_id"]) for row in answer["rows"][:2])
    assert (clean.model, clean.version, clean.alias) == ("kinds", "1", "champion")
    assert clean.request_id == answer["request_id"]
    assert clean.received == clean.used == {"a": 1.0, "b": 2.0, "how": "well"}
    assert clean.warnings == ()
    assert (clean.value, clean.probabilities) == ("small", {"small": 0.99, "large": 0.01})
    assert before < clean.at < time.time()
    assert 0 < clean.seconds < 10
    assert mended.received == {"a": 500, "how": "new"}
    assert mended.used == {"a": 100.0, "b": 1.0, "how": "well"}
    assert mended.warnings == (
        ("a", "out_of_range", "clip"),
        ("b", "missing", "impute"),
        ("how", "unknown_category", "map_to"),
    )
    assert len(list(store.rows("kinds", None, *ALWAYS))) == 2  # the refused row is not there


def test_a_row_of_the_inference_protocol_is_logged_and_its_id_can_be_asked_for(
    server: ServerProcess, store: PredictionStore
) -> None:
    def tensor(name: str, datatype: str, *data: Any) -> dict[str, Any]:
        return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}

    numbers = [tensor("a", "FP64", 1, 500), tensor("b", "FP64", 2, 3)]
    names = ("sum", "prediction_id")
    body = {
        "inputs": [*numbers, tensor("how", "BYTES", "well", "well")],
        "outputs": [{"name": name} for name in names],
        "parameters": {"entity": "plum"},
    }
    answer = server.client.post("/v2/models/sums/infer", json=body).json()

    sums, ids = (output["data"] for output in answer["outputs"])
    first, second = (logged(store, prediction_id) for prediction_id in ids)
    assert [first.value, second.value] == sums == [3.0, 103.0]
    assert first.used == {"a": 1.0, "b": 2.0, "how": "well"}
    assert second.received == {"a": 500, "b": 3, "how": "well"}
    assert second.warnings == (("a", "out_of_range", "clip"),)
    assert first.alias == "champion"
    assert first.entity == second.entity != "plum"
    assert first.entity
    assert first.request_id == answer["id"]


def test_each_row_names_the_version_that_answered_and_by_which_alias(
    server: ServerProcess, store: PredictionStore, tmp_path: Path
) -> None:
    pinned = server.client.post("/v1/models/sums/versions/1/predict", json={"rows": [ROW]}).json()
    canary(tmp_path / "traffic.yaml", "sums", "3", 100, "tests")
    wait_for(lambda: ask(server, ROW)["alias"] == "challenger", "the challenger answers")
    challenged = ask(server, ROW)

    assert logged(store, pinned["rows"][0]["prediction_id"]).alias is None
    row = logged(store, challenged["rows"][0]["prediction_id"])
    assert (row.version, row.alias) == ("3", "challenger")


def test_what_a_shadow_answered_is_logged_beside_the_answer(
    server: ServerProcess, store: PredictionStore, tmp_path: Path
) -> None:
    shadow(tmp_path / "traffic.yaml", "sums", "3", "tests")
    wait_for(
        lambda: "shadow" in server.client.get("/v1/models/sums").json()["aliases"], "it is a shadow"
    )
    answer = ask(server, ROW, {"a": "x"}, {**ROW, "a": 500})

    for position, value in ((0, 1003.0), (2, 1102.0)):
        given = answer["rows"][position]["prediction_id"]
        row = logged(store, f"{given}.shadow-3")
        assert (row.version, row.alias, row.value) == ("3", "shadow", value)
        assert row.shadow_of == given


def test_entities_and_sensitive_features_are_nowhere_to_be_found(
    server: ServerProcess, store: PredictionStore, tmp_path: Path
) -> None:
    planted = ("plum.tree@planted.example", "Plantedtown", "planted-entity", "plantedfield")
    row = {
        "customer": 7,
        "email": planted[0],
        "town": planted[1],
        "age": 300,
        planted[3]: planted[0],
    }
    answer = ask(server, row, model="people", entity=planted[2])
    again = ask(server, row, model="people", entity=planted[2])
    ask(server, {**row, "age": planted[0]}, {**row, "email": [planted[1]]}, model="people")
    found, same = (logged(store, a["rows"][0]["prediction_id"]) for a in (answer, again))
    metrics = server.client.get("/metrics").text

    assert found.used is not None
    assert found.received is not None
    assert found.used["customer"] == 7
    assert found.used["email"].startswith("hashed:")
    assert found.received["town"] != found.used["town"]
    assert found.warnings == (
        ("town", "unknown_category", "map_to"),
        ("age", "out_of_range", "clip"),
        ("unknown", "unknown_field", "ignore"),
    )
    # The same person is recognised again, by who has the salt.
    assert (found.used, found.entity, found.key) == (same.used, same.entity, same.key)
    assert found.entity is not None
    server.stop()
    files = [path for path in (tmp_path / "prediction_log").iterdir() if path.name != "salt"]
    written = b"".join(path.read_bytes() for path in files)
    assert b"hashed:" in written
    log = str(server.log) + "".join(server.told) + metrics
    for text in planted:
        assert text.encode() not in written
        assert text not in log


def test_the_log_of_a_living_process_holds_no_planted_value_either(
    server: ServerProcess, store: PredictionStore, tmp_path: Path
) -> None:
    row = {"customer": 7, "email": "planted-a", "town": "planted-b", "age": 30}
    logged(store, ask(server, row, model="people")["rows"][0]["prediction_id"])

    files = {p.name: p.read_bytes() for p in (tmp_path / "prediction_log").iterdir()}

    assert (tmp_path / "prediction_log").stat().st_mode & 0o077 == 0
    assert any(name.endswith("-wal") and content for name, content in files.items())
    assert b"planted" not in b"".join(files.values())


@pytest.mark.parametrize(("store_features", "kept"), [("none", None), (["age"], {"age": 30.0})])
def test_only_the_features_that_may_be_kept_are_kept(
    tmp_path: Path, store: PredictionStore, store_features: Any, kept: Any
) -> None:
    log = {"store_features": store_features}
    with stub_server(tmp_path, script=SERVICE, prediction_log=log) as server:
        row = {"customer": 7, "email": "x", "town": "Bonn", "age": 30}
        found = logged(store, ask(server, row, model="people")["rows"][0]["prediction_id"])

    assert (found.used, found.received) == (kept, kept)
    assert found.value == "stays"


def test_without_a_place_nothing_is_written_and_everything_is_answered(tmp_path: Path) -> None:
    with stub_server(tmp_path, stores={"prediction_log": ""}) as server:
        assert ask(server, ROW)["rows"][0]["value"] == 3.0
    assert not (tmp_path / "prediction_log").exists()


def test_stopping_writes_what_was_answered_last(tmp_path: Path, store: PredictionStore) -> None:
    with stub_server(tmp_path) as server:
        answer = ask(server, ROW)
    assert store.find(answer["rows"][0]["prediction_id"]) is not None


def test_a_running_service_deletes_what_is_too_old(tmp_path: Path, store: PredictionStore) -> None:
    day, now = 86_400, time.time()

    def old(days: int, model: str) -> LoggedRow:
        return log_row(days, model=model, at=now - days * day, prediction_id=f"{model}-{days}")

    # People's truth may come after 90 days; of sums none is expected.
    store.append([old(days, model) for days in (1, 40, 100) for model in ("sums", "people")])
    with stub_server(tmp_path, script=SERVICE):
        wait_for(lambda: store.find("people-100") is None, "the oldest row is deleted")
        wait_for(lambda: store.get_state("last purge") is not None, "it is remembered when")
    kept = {row.prediction_id: row.used for row in store.rows("people", None, *ALWAYS)}
    assert kept.keys() == {"people-1", "people-40"}
    assert kept["people-40"] is None
    assert kept["people-1"] is not None
    assert [row.prediction_id for row in store.rows("sums", None, *ALWAYS)] == ["sums-1"]


def test_several_workers_write_into_one_log(tmp_path: Path, store: PredictionStore) -> None:
    with stub_server(tmp_path, server={"workers": 2}, wait=False) as server:
        server.wait_until_loaded()
        ids: list[str] = []

        def both_have_answered() -> bool:
            with httpx.Client(base_url=server.url, trust_env=False) as client:
                answer = client.post("/v1/models/sums/predict", json={"rows": [ROW]})
                if answer.status_code == 200:  # one of the workers may still load
                    ids.append(answer.json()["rows"][0]["prediction_id"])
            workers = {prediction_id.partition("-")[0] for prediction_id in ids}
            return len(ids) > 100 and len(workers) == 2

        wait_for(both_have_answered, "both workers answered", pause=0)
    found = {row.prediction_id for row in store.rows("sums", None, *ALWAYS)}
    assert found == set(ids)


def test_counts_of_all_workers_add_up_and_tell_what_was_missing_new_or_refused(
    tmp_path: Path, store: PredictionStore
) -> None:
    rows = [
        {"customer": 1, "email": "a@x", "town": "Ulm", "age": 30},
        {"customer": 1, "email": "a@x", "town": "Bonn", "age": 30},
        {"customer": 1, "email": "a@x", "town": "Jena", "age": 300},
        {"customer": 1, "town": "Jena", "age": 100},
    ]
    began = time.time()
    with stub_server(
        tmp_path,
        script=SERVICE,
        wait=False,
        server={"workers": 2},
        prediction_log={"store_features": "none"},
    ) as server:
        server.wait_until_loaded()
        asked: Counter[int] = Counter()  # one of the workers may still load, and answer 503
        prefixes = set()

        def both_have_answered() -> bool:
            with httpx.Client(base_url=server.url, trust_env=False) as client:
                for body in ({"rows": rows}, {"rows": rows[3:]}):
                    answer = client.post("/v1/models/people/predict", json=body)
                    asked[answer.status_code] += 1
                    if answer.status_code == 200:
                        prefixes.add(answer.json()["rows"][0]["prediction_id"].partition("-")[0])
            return asked[200] > 50 and asked[422] > 50 and len(prefixes) == 2

        wait_for(both_have_answered, "both workers answered", pause=0)
    workers = list(store.counts("people", "1", *ALWAYS))
    whole = merge(Counts.decode(one.counts) for one in workers)
    some, none = asked[200], asked[422]

    assert len({one.worker for one in workers}) == 2
    assert (whole.rows, whole.refused) == (4 * some + none, some + none)
    assert sum(whole.blocks.values()) == 3 * some
    hours = block_of(np.array([began, time.time()]), 1).tolist()
    assert set(whole.blocks) <= set(hours), "a row belongs to the hour in which it was answered"
    assert whole.features["email"].missing == some + none
    assert whole.features["town"].unseen == some
    assert whole.features["town"].bins[:2] == [some, some]
    assert whole.features["age"].out_of_range == some
    assert whole.features["prediction"].bins[:2] == [2 * some, some]


def test_rows_that_all_fail_in_the_model_are_counted_though_none_is_answered(
    tmp_path: Path, store: PredictionStore
) -> None:
    good = {"customer": 1, "email": "a@x", "town": "Ulm", "age": 30}
    bad = good | {"age": 113}
    with stub_server(tmp_path, script=SERVICE) as server:
        ask(server, good, model="people")
        assert ask(server, bad, bad, model="people")["status"] == 500
        tensors = [
            {"name": name, "datatype": kind, "shape": [1], "data": [bad[name]]}
            for name, kind in zip(bad, ("INT64", "BYTES", "BYTES", "FP64"), strict=True)
        ]
        answer = server.client.post("/v2/models/people/infer", json={"inputs": tensors})
        assert answer.status_code == 500
    whole = merge(Counts.decode(one.counts) for one in store.counts("people", "1", *ALWAYS))
    assert (whole.rows, whole.refused) == (4, 0)
    age = whole.features["age"]
    assert sum(age.bins) + age.unseen == 4
    assert sum(whole.features["prediction"].bins) == 1
    assert len(list(store.rows("people", None, *ALWAYS))) == 1


def test_a_kill_loses_no_more_than_the_last_moments_and_spoils_nothing(
    tmp_path: Path, store: PredictionStore
) -> None:
    answered: list[tuple[float, str]] = []
    with stub_server(tmp_path) as server:

        def ask_all_the_time() -> None:
            with httpx.Client(base_url=server.url, trust_env=False) as client:
                try:
                    while True:
                        got = client.post("/v1/models/sums/predict", json={"rows": [ROW]}).json()
                        answered.append((time.time(), got["rows"][0]["prediction_id"]))
                except httpx.HTTPError:
                    return

        threads = [threading.Thread(target=ask_all_the_time) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(5)
        killed = time.time()
        server.process.kill()
        for thread in threads:
            thread.join()

    found = {row.prediction_id for row in store.rows("sums", None, *ALWAYS)}
    connection = sqlite3.connect(tmp_path / "prediction_log" / "predictions.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    # A second by promise; this machine may be busy with other things for two more.
    old = {prediction_id for at, prediction_id in answered if at < killed - 3}
    assert len(old) > 50
    assert old <= found


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_delays_no_answer_and_is_written_to_again_once_there_is_room(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        log = {"queue_rows": 2000}
        dropped_rows = 'prediction_log_rows_total{result="dropped"}'
        place = {"prediction_log": str(disk)}
        with stub_server(tmp_path, stores=place, prediction_log=log) as server:
            asked = answered = 0
            for full in ("prediction_log_failures_total", dropped_rows):
                while not metric(server, full):
                    asked += 100
                    answered += sum("value" in row for row in ask(server, *[ROW] * 100)["rows"])
                    assert asked < 200_000
            assert answered == asked
            assert server.client.get("/readyz").status_code == 200
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            written_rows = 'prediction_log_rows_total{result="written"}'
            wait_for(
                lambda: metric(server, written_rows) + metric(server, dropped_rows) == asked,
                "all is written that was not dropped",
            )
            written = metric(server, written_rows)
        bodies = [line["body"] for line in server.log]
        assert sum("is not written" in body and "full" in body for body in bodies) == 1
        assert "the prediction log is written again" in bodies
        store = open_store(str(disk), tmp_path)
        assert len(list(store.rows("sums", None, *ALWAYS))) == written
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_database_that_is_down_delays_no_answer_and_gets_what_it_missed(tmp_path: Path) -> None:
    with postgresql_server() as database:
        place = database.new_log()
        with stub_server(tmp_path, stores={"prediction_log": place}) as server:
            ids = [ask(server, ROW)["rows"][0]["prediction_id"]]
            written = 'prediction_log_rows_total{result="written"}'
            wait_for(lambda: metric(server, written) == 1, "the first row is written")
            database.stop()
            ids += [ask(server, ROW)["rows"][0]["prediction_id"] for _ in range(50)]
            wait_for(lambda: metric(server, "prediction_log_failures_total") > 0, "a write fails")
            assert server.client.get("/readyz").status_code == 200
            database.start()
            wait_for(lambda: metric(server, written) == 51, "what waited is written")
        store = open_store(place, tmp_path)
        assert {row.prediction_id for row in store.rows("sums", None, *ALWAYS)} == set(ids)
        store.close()
