"""What every store of the prediction log keeps, whatever database it is in."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from model_service.prediction_log.database import SCHEMA_VERSION, Execute
from model_service.prediction_log.records import GroundTruth, LoggedCounts
from model_service.prediction_log.store import (
    ROWS_AT_ONCE,
    PredictionStore,
    StoreError,
    open_store,
)
from model_service.repository import Repository
from model_service.serving.retention import Retention
from model_service.settings import Settings
from tests.platform.prediction_log.logged import logged

ALWAYS = (0.0, 1e12)


def truth(prediction_id: str | None, value: Any = "leaves", **fields: Any) -> GroundTruth:
    return GroundTruth(
        prediction_id=prediction_id,
        value=value,
        **{"at": 2000.0, "received_at": 3000.0, **fields},
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"received": {"age": 41, "town": "Ulm"}, "warnings": ()},
        {"received": None, "used": None, "entity": None, "alias": None, "probabilities": None},
        {"value": [1.5, -2.0], "probabilities": None},
        {"value": 0.1 + 0.2, "at": 1700000000.123456},
        {"used": {"ä\u0000 '\"; DROP": "☃\u0000"}, "key": "k1", "shadow_of": "p-0"},
    ],
    ids=["mended", "clean", "not stored", "vector", "number", "odd text"],
)
def test_a_row_comes_back_as_it_was_logged(store: PredictionStore, changes: Any) -> None:
    store.append([logged(1, **changes), logged(2)])

    assert store.find("p-1") == logged(1, **changes)


def test_an_id_that_nobody_logged_finds_nothing(store: PredictionStore) -> None:
    store.append([logged(1)])

    assert store.find("p-2") is None


def test_a_batch_that_is_written_again_changes_nothing(store: PredictionStore) -> None:
    store.append([logged(1), logged(2)])
    store.append([logged(2, value="leaves"), logged(3)])

    rows = list(store.rows("churn", "1", *ALWAYS))
    assert [(row.prediction_id, row.value) for row in rows] == [
        ("p-1", "stays"),
        ("p-2", "stays"),
        ("p-3", "stays"),
    ]


def test_rows_are_read_by_model_version_and_time(store: PredictionStore) -> None:
    store.append([logged(3), logged(1), logged(2), logged(4, version="2"), logged(5, model="x")])

    def ids(version: str | None, since: float, until: float, limit: int | None = None) -> list[str]:
        return [r.prediction_id for r in store.rows("churn", version, since, until, limit)]

    assert ids("1", *ALWAYS) == ["p-1", "p-2", "p-3"]
    assert ids(None, *ALWAYS) == ["p-1", "p-2", "p-3", "p-4"]
    assert ids("1", 1002.0, 1003.0) == ["p-2"]
    assert ids("1", *ALWAYS, limit=2) == ["p-2", "p-3"]


def test_more_rows_than_are_read_at_once_are_all_read(store: PredictionStore) -> None:
    count = 2 * ROWS_AT_ONCE + 7
    # Many at the very same moment: none may be skipped where one read ends.
    store.append([logged(n, prediction_id=f"{n:06d}", at=float(n // 500)) for n in range(count)])

    ids = [row.prediction_id for row in store.rows("churn", "1", *ALWAYS)]

    assert ids == [f"{n:06d}" for n in range(count)]


def test_activity_says_who_answered_and_when(store: PredictionStore) -> None:
    store.append([logged(1), logged(4), logged(3, version="2")])

    found = [(a.model, a.version, a.rows, a.first, a.last) for a in store.activity(*ALWAYS)]

    assert found == [("churn", "1", 2, 1001.0, 1004.0), ("churn", "2", 1, 1003.0, 1003.0)]
    assert store.last_seen("churn", "1") == 1004.0
    assert store.last_seen("churn", "9") is None


def test_counts_of_a_worker_grow_and_those_of_others_stand_beside_them(
    store: PredictionStore,
) -> None:
    store.add_counts([LoggedCounts("churn", "1", 60, "a", b"\x00one"), counts(120, "a")])
    store.add_counts([LoggedCounts("churn", "1", 60, "a", b"\xfftwo"), counts(60, "b")])

    found = list(store.counts("churn", "1", 60, 120))

    assert [(one.worker, one.counts) for one in found] == [("a", b"\xfftwo"), ("b", b"x")]


def counts(window_start: int, worker: str) -> LoggedCounts:
    return LoggedCounts("churn", "1", window_start, worker, b"x")


def test_ground_truth_is_matched_repeated_corrected_or_unknown(store: PredictionStore) -> None:
    store.append([logged(1), logged(2)])

    first = store.add_ground_truth([truth("p-1"), truth("p-9")])
    second = store.add_ground_truth([truth("p-1"), truth("p-1", "stays"), truth("p-9")])

    assert first.results == ("matched", "unknown")
    assert second.results == ("repeated", "corrected", "unknown")
    assert [(row.prediction_id, what) for row, what in store.joined("churn", "1", *ALWAYS)] == [
        ("p-1", "stays")
    ]
    assert store.truth_of("p-1") == "stays"
    assert store.truth_of("p-2") is None


def test_a_truth_that_comes_before_its_prediction_is_joined_later(store: PredictionStore) -> None:
    assert store.add_ground_truth([truth("p-1", 12.5)]).results == ("unknown",)

    store.append([logged(1)])

    assert [what for _, what in store.joined("churn", "1", *ALWAYS)] == [12.5]


def test_a_truth_by_key_belongs_to_the_last_answer_before_it(store: PredictionStore) -> None:
    store.append([logged(1, key="k"), logged(2, key="k"), logged(3, key="k"), logged(4, key="o")])
    told = truth(None, model="churn", key="k", at=1002.5)

    assert store.add_ground_truth([told, told]).results == ("matched", "repeated")
    assert [row.prediction_id for row, _ in store.joined("churn", "1", *ALWAYS)] == ["p-2"]


def test_a_truth_by_key_waits_for_its_answer(store: PredictionStore) -> None:
    told = truth(None, model="churn", key="k", at=1002.5)

    assert store.add_ground_truth([told, told]).results == ("unknown", "unknown")
    assert list(store.joined("churn", "1", *ALWAYS)) == []
    store.append([logged(1, key="k")])

    assert [row.prediction_id for row, _ in store.joined("churn", "1", *ALWAYS)] == ["p-1"]
    assert store.add_ground_truth([told]).results == ("repeated",)


def test_what_became_true_holds_for_the_shadow_of_an_answer_as_well(store: PredictionStore) -> None:
    shadow = logged(2, version="2", alias="shadow", shadow_of="p-1", key="k")
    store.append([logged(1, key="k"), shadow])
    store.add_ground_truth([truth(None, model="churn", key="k")])

    assert [what for _, what in store.joined("churn", "2", *ALWAYS)] == ["leaves"]
    assert [row.prediction_id for row, _ in store.joined("churn", "1", *ALWAYS)] == ["p-1"]


def test_state_is_remembered_under_its_name(store: PredictionStore) -> None:
    store.set_state("alarms", b"\x00old")
    store.set_state("alarms", b"\x00new")
    store.set_state("others", b"")

    assert store.get_state("alarms") == b"\x00new"
    assert store.get_state("others") == b""
    assert store.get_state("nothing") is None


def test_what_is_older_than_the_retention_goes(store: PredictionStore) -> None:
    store.append([logged(1), logged(2), logged(3)])
    store.add_counts([counts(960, "a"), counts(1020, "a")])
    store.add_ground_truth([truth("p-1", received_at=1001.5), truth("p-3", received_at=1004.0)])

    assert store.purge(1002.5, 1000.0) == 2

    assert [row.prediction_id for row in store.rows("churn", None, *ALWAYS)] == ["p-3"]
    assert [one.window_start for one in store.counts("churn", "1", *ALWAYS)] == [1020]
    assert store.truth_of("p-3") == "leaves"


def test_answers_wait_for_late_truth_without_their_features(store: PredictionStore) -> None:
    store.append([logged(1), logged(2), logged(3, key="k", entity="e")])

    assert store.purge(1003.5, 1000.0, {"churn": 1001.5}) == 1

    kept = store.find("p-3")
    assert kept is not None
    assert (kept.used, kept.received, kept.entity, kept.key) == (None, None, None, None)
    assert (kept.value, kept.probabilities) == ("stays", {"stays": 0.75, "leaves": 0.25})
    store.add_ground_truth([truth("p-3")])
    assert [row.prediction_id for row, _ in store.joined("churn", "1", *ALWAYS)] == ["p-3"]


def test_retention_deletes_no_answer_of_a_model_whose_plan_for_truth_is_not_understood(
    place: str, store: PredictionStore, tmp_path: Path
) -> None:
    planned = tmp_path / "models" / "churn" / "model.yaml"
    planned.parent.mkdir(parents=True)
    planned.write_text("ground_truth: {expected: true, within_dais: 90}\n")
    store.append([logged(1), logged(2, model="other")])
    told: list[str] = []
    retention = Retention(Settings(name="t"), Repository(tmp_path), place, told.append)
    retention.start()
    deadline = time.monotonic() + 60
    while store.find("p-2") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    retention.stop()

    kept = store.find("p-1")
    assert kept is not None
    assert (kept.used, kept.entity, kept.value) == (None, None, "stays")
    assert "within_days" in told[0]


def test_the_oldest_rows_go_when_there_is_no_more_room(store: PredictionStore) -> None:
    wide = {"text": "x" * 1000}
    store.append([logged(n, received=wide, used=wide, warnings=()) for n in range(5000)])

    deleted = store.purge(0.0, 3.0)

    assert 1500 < deleted < 4500
    left = [row.at for row in store.rows("churn", None, *ALWAYS)]
    assert len(left) == 5000 - deleted
    assert min(left) == 1000.0 + deleted


def test_however_much_there_is_nobody_waits_for_more_than_a_step_of_it(
    store: PredictionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_service.prediction_log.store.ROWS_AT_ONCE", 50)
    store.append([logged(n, key="k-0") for n in range(20)])
    told = [truth(None, model="churn", key=f"k-{n}", at=3000.0) for n in range(120)]
    store.add_ground_truth([*told, truth("p-1"), *(truth(f"made-up-{n}") for n in range(120))])
    store.append([logged(n, at=2000.0, key=f"k-{n % 120}") for n in range(1000, 1360)])
    store.add_counts([counts(60 * n, "a") for n in range(120)])
    changes: list[int] = []
    transaction = store._database.transaction

    @contextlib.contextmanager
    def counted() -> Iterator[Execute]:
        with transaction() as run:
            changes.append(0)

            def counting(sql: str, parameters: Any) -> Any:
                ran = run(sql, parameters)
                changes[-1] += max(ran.rowcount, 0)
                return ran

            yield counting

    monkeypatch.setattr(store._database, "transaction", counted)
    assert len(list(store.joined("churn", None, *ALWAYS))) == 121
    assert max(changes) <= 2 * 50  # what waits is deleted there and kept here
    changes.clear()

    assert store.purge(2500.0, 1000.0, {"churn": 1500.0}) == 20
    assert {row.used for row in store.rows("churn", None, *ALWAYS)} == {None}
    assert store.purge(4000.0, 1000.0) == 360
    assert store.purge(0.0, 0.0) == 0
    assert max(changes) == 50


def test_truth_of_predictions_that_nobody_knows_costs_no_prediction_its_place(
    store: PredictionStore,
) -> None:
    store.append([logged(n) for n in range(200)])
    flood = [truth(f"made-up-{n}", value="x" * 1500) for n in range(2000)]
    store.add_ground_truth([truth("p-1"), *flood])

    assert store.purge(0.0, 2.0) == 0

    assert len(list(store.rows("churn", None, *ALWAYS))) == 200
    assert store.truth_of("p-1") == "leaves"
    store.append([logged(1, prediction_id="made-up-1")])
    assert store.truth_of("made-up-1") is None


def test_truth_of_rows_that_went_costs_no_other_row_its_place(store: PredictionStore) -> None:
    store.append([logged(n, used=None, received=None, warnings=()) for n in range(1000)])
    store.add_ground_truth([truth(f"p-{n}", value="x" * 1500) for n in range(1000)])

    assert 150 < store.purge(0.0, 1.5) < 700


def _append_batches(places: list[str], root: Path, worker: int, together: Barrier) -> None:
    for place in places:
        store = open_store(place, root)
        together.wait(60)
        for batch in range(5):
            numbers = range(batch * 20, batch * 20 + 20)
            store.append([logged(n, prediction_id=f"{worker}-{n}") for n in numbers])
            store.add_counts([counts(60 * batch, str(worker))])
        store.close()


def test_several_processes_begin_and_write_at_once(
    new_place: Callable[[], str], tmp_path: Path
) -> None:
    places = [new_place() for _ in range(6)]
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(4)
    workers = [
        context.Process(target=_append_batches, args=(places, tmp_path, worker, together))
        for worker in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    for place in places:
        store = open_store(place, tmp_path)
        assert len({row.prediction_id for row in store.rows("churn", "1", *ALWAYS)}) == 400
        assert len(list(store.counts("churn", "1", *ALWAYS))) == 20
        store.close()


def test_what_a_newer_version_wrote_is_left_alone(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_service.prediction_log import postgresql_database, sqlite_database

    for module in (sqlite_database, postgresql_database):
        monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    newer = open_store(place, tmp_path)
    newer.append([logged(1)])
    newer.close()
    monkeypatch.undo()

    older = open_store(place, tmp_path)
    with pytest.raises(StoreError, match="newer version of this service"):
        older.append([logged(2)])


def test_a_place_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, named in (
        ("file", str(tmp_path / "file")),
        ("postgresql://anna:geheim@127.0.0.1:1/log", "127.0.0.1:1/log"),
        ("postgresql://anna:x@geheim@127.0.0.1:1/log", "write @ as %40"),
        ("postgresql://anna:x/geheim@127.0.0.1:1/log", "/ as %2F"),
        ("postgresql://anna:geheim@[127.0.0.1:1/log", "[127.0.0.1:1/log"),
        ("postgresql://anna:x?geheim@127.0.0.1:1/log", "? as %3F"),
        ("postgresql://anna:geheim@127.0.0.1:1x/log", "127.0.0.1:1x/log"),
        ("postgresql://anna:x%geheim@127.0.0.1:1/log", "127.0.0.1:1/log"),
    ):
        with pytest.raises(StoreError, match=r"^The prediction log .* (fails|no URL)") as refused:
            open_store(place, tmp_path).find("p-1")
        assert named in str(refused.value)
        assert "geheim" not in str(refused.value)


def test_what_is_deleted_gives_its_room_back(tmp_path: Path) -> None:
    store = open_store("log", tmp_path)
    wide = {"text": "x" * 1000}
    store.append([logged(n, received=wide, used=wide, warnings=()) for n in range(20_000)])
    file = tmp_path / "log" / "predictions.sqlite"
    store.purge(0.0, 1000.0)
    before = file.stat().st_size

    assert store.purge(1e12, 1000.0) == 20_000

    assert before > 20_000_000
    assert file.stat().st_size < 1_000_000
    store.close()
