"""The thread that writes the prediction log, when the log does not do what it should."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from model_service.drift.counts import Counts
from model_service.drift.profiling import profile_of
from model_service.hooks import Hooks
from model_service.prediction_log.database import PredictionColumns
from model_service.prediction_log.records import LoggedRow
from model_service.prediction_log.store import PredictionStore, StoreError
from model_service.registry.loaded_version import LoadedVersion
from model_service.registry.profile import PROFILE, write_profile
from model_service.serving import prediction_recorder
from model_service.serving.answered_request import AnsweredRequest
from model_service.serving.logs import LogWriter
from model_service.serving.minute_counts import MinuteCounts
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.row_answers import RowAnswer
from model_service.settings import Settings
from tests.platform.serving.stub_service import SUMS, StubVersion, make_repository

COUNT = 20


@pytest.fixture
def recorder(tmp_path: Path) -> PredictionRecorder:
    """A recorder that has answered requests to write, and counts to keep."""
    repository = make_repository(tmp_path)
    version = StubVersion("sums", "2", 100)
    rows = [{"a": n, "b": 1, "how": "well"} for n in range(COUNT)]
    read = version.reader.read_rows(rows)
    profile = profile_of(SUMS, read, version.predict(read.values))
    write_profile(tmp_path / "registry/sums/2", profile)
    made = PredictionRecorder(
        Settings(name="t"), repository, LogWriter(io.BytesIO(), "t"), Hooks({}, print)
    )
    for n, row in enumerate(rows):
        one, answers = version.reader.read_rows([row]), [RowAnswer(f"p-{n}", n + 1.0)]
        loaded = cast("LoadedVersion", version)
        made.append(
            AnsweredRequest(loaded, "champion", f"r-{n}", None, b"", one, answers, time.time(), 0.1)
        )
    return made


def wait_until_done(recorder: PredictionRecorder, count: int = COUNT) -> None:
    recorder.start()
    deadline = time.monotonic() + 60
    while recorder.written + recorder.dropped < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_row_that_the_database_refuses_for_what_it_holds_costs_no_other(
    recorder: PredictionRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = PredictionStore.append_columns

    def picky(store: PredictionStore, rows: Sequence[PredictionColumns]) -> None:
        if any(columns[0] == "p-7" for columns in rows):
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        append(store, rows)

    monkeypatch.setattr(PredictionStore, "append_columns", picky)
    wait_until_done(recorder)
    recorder.stop(60)
    assert (recorder.written, recorder.dropped, recorder.failures) == (COUNT - 1, 1, 0)


@pytest.mark.parametrize("error", [StoreError("down"), ZeroDivisionError()])
def test_counts_that_cannot_be_kept_for_once_count_no_row_twice_and_end_no_thread(
    recorder: PredictionRecorder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    add_counts = PredictionStore.add_counts
    calls: list[Any] = []

    def failing_once(store: PredictionStore, counts: Any) -> None:
        calls.append(counts)
        if len(calls) == 1:
            raise error
        add_counts(store, counts)

    monkeypatch.setattr(PredictionStore, "add_counts", failing_once)
    later = recorder._waiting[-1]
    wait_until_done(recorder)
    recorder.append(msgspec.structs.replace(later, rows=[RowAnswer("later", 1.0)]))
    wait_until_done(recorder, COUNT + 1)
    recorder.stop(60)
    assert (recorder.written, recorder.dropped) == (COUNT + 1, 0)
    assert recorder.failures == isinstance(error, StoreError)


def test_a_hook_hears_of_a_large_batch_in_slices(
    recorder: PredictionRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_recorder, "ROWS_AN_EVENT", 8)
    heard: list[list[LoggedRow]] = []
    recorder._hooks = Hooks({"on_prediction": heard.append}, print)
    wait_until_done(recorder)
    recorder.stop(60)
    recorder._hooks.wait(60)
    assert [len(rows) for rows in heard] == [8, 8, 4]
    assert [row.prediction_id for rows in heard for row in rows] == [f"p-{n}" for n in range(COUNT)]


def test_versions_that_take_turns_are_written_as_quickly_as_one(
    recorder: PredictionRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, pauses = time.sleep, list[float]()
    other = cast("LoadedVersion", StubVersion("sums", "3", 100))
    for n, request in enumerate(list(recorder._waiting)):
        if n % 2:
            recorder._waiting[n] = msgspec.structs.replace(request, loaded=other)

    def noted(seconds: float) -> None:
        pauses.append(seconds)
        pause(seconds)

    monkeypatch.setattr(time, "sleep", noted)
    wait_until_done(recorder)
    recorder.stop(60)
    assert recorder._store is not None
    written = [row for v in ("2", "3") for row in recorder._store.rows("sums", v, 0, 1e12)]
    assert [row.prediction_id for row in written] == [
        f"p-{n}" for n in (*range(0, COUNT, 2), *range(1, COUNT, 2))
    ]
    assert pauses.count(prediction_recorder.SECONDS_A_BREATH) == 2  # after the rows, the counts


def test_a_profile_that_cannot_be_read_is_read_again(
    recorder: PredictionRecorder, tmp_path: Path
) -> None:
    told: list[str] = []
    counts = MinuteCounts(tmp_path / "registry", told.append)
    profile = tmp_path / "registry/sums/2" / PROFILE
    away = profile.rename(tmp_path / "away")
    profile.mkdir()  # what even root cannot read
    counts.add([recorder._waiting[0]])
    assert counts.unwritten() == []
    assert PROFILE in told[0]
    profile.rmdir()
    away.rename(profile)
    counts.add(list(recorder._waiting)[:3])
    assert [Counts.decode(one.counts).rows for one in counts.unwritten()] == [3]
