"""Answered requests on their way into the prediction log: a bounded queue and one thread.

The event loop only appends. What happens to the log (a full disk, a database that is down) delays
and fails no answer: rows wait, and when no more fit they are dropped and counted.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial

from model_service.hooks import Hooks
from model_service.model_settings import ModelSettingsError, read_model_settings
from model_service.prediction_log.database import PredictionColumns
from model_service.prediction_log.pseudonyms import Pseudonyms, read_pseudonyms
from model_service.prediction_log.records import LoggedCounts
from model_service.prediction_log.store import StoreError, logged_row, open_store
from model_service.prediction_log.stored_features import StoredFeatures
from model_service.registry.loaded_version import LoadedVersion
from model_service.repository import Repository
from model_service.serving.answered_request import AnsweredRequest, stored_rows
from model_service.serving.logs import LogWriter, notice_line
from model_service.serving.metrics import Metrics
from model_service.serving.minute_counts import MinuteCounts
from model_service.settings import Settings

SECONDS_BETWEEN_WRITES = 0.5
LONGEST_BACK_OFF = 30.0
MOST_BYTES = 128 * 1024 * 1024
"""Of the bodies that wait, beside the limit of rows."""
ROWS_AN_EVENT = 50
"""Of the hook on_prediction, whose queue is bounded by events."""
ROWS_A_BATCH = 1_000
ROWS_A_BREATH = 100
"""Rows that are made ready at once; then the event loop gets its turn."""
SECONDS_A_BREATH = 0.0002
SECONDS_OF_THE_LOCK = 0.001
"""How long a thread of Python may keep the interpreter to itself while the event loop waits for it;
five times as long by default, which the slowest of a thousand answers would feel."""
STUB_PLACE = "prediction_log/stub"
"""A stub's answers are kept apart from those of models: nobody watches them for drift."""


class PredictionRecorder:
    """Takes answered requests, and writes their rows at least once a second.

    `place` is where the log is, "" without one. `written` and `dropped` count rows, `failures` the
    writes that failed and were tried again.
    """

    def __init__(
        self, settings: Settings, repository: Repository, log: LogWriter, hooks: Hooks
    ) -> None:
        self.written = 0
        self.dropped = 0
        self.failures = 0
        self._settings = settings
        self._repository = repository
        self._log = log
        self._hooks = hooks
        self.place = STUB_PLACE if settings.server.stub else settings.stores.prediction_log
        self._store = open_store(self.place, repository.root) if self.place else None
        self._is_on = self._store is not None or hooks.wants("on_prediction")
        registry = repository.root / settings.stores.registry
        self._counts = MinuteCounts(registry, partial(self._tell, "ERROR"))
        self._waiting: deque[AnsweredRequest] = deque()
        self._appending = threading.Lock()
        self._most_rows = settings.prediction_log.queue_rows
        self._rows_in = self._rows_out = 0
        self._bytes_in = self._bytes_out = 0
        self._unwritten: list[PredictionColumns] = []
        self._unwritten_counts: list[LoggedCounts] = []
        self._next_try = 0.0
        self._back_off = 0.0
        self._pseudonyms: Pseudonyms | None = None
        self._stored: weakref.WeakKeyDictionary[LoadedVersion, StoredFeatures] = (
            weakref.WeakKeyDictionary()
        )
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def mirror_to(self, metrics: Metrics) -> None:
        """Let the metrics tell what becomes of rows."""
        metrics.mirror("prediction_log_rows", lambda: self.written, "written")
        metrics.mirror("prediction_log_rows", lambda: self.dropped, "dropped")
        metrics.mirror("prediction_log_failures", lambda: self.failures)

    def _waiting_rows(self) -> int:
        return self._rows_in - self._rows_out + len(self._unwritten)

    def append(self, request: AnsweredRequest) -> None:
        """Take a request to be written soon; never waits for the log."""
        if not self._is_on:
            return
        count = request.read.count
        size = request.size
        with self._appending:
            rows = self._rows_in - self._rows_out + count
            if rows > self._most_rows or self._bytes_in - self._bytes_out + size > MOST_BYTES:
                self.dropped += count
                return
            self._rows_in += count
            self._bytes_in += size
            self._waiting.append(request)

    def start(self) -> None:
        """Begin to write."""
        if self._is_on and self._thread is None:
            self._stopping.clear()
            sys.setswitchinterval(SECONDS_OF_THE_LOCK)
            self._thread = threading.Thread(target=self._loop, name="prediction log", daemon=True)
            self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Write what is left, for at most `seconds`; what cannot be written is counted as lost."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join(seconds)
        self._thread = None
        lost = self._waiting_rows()
        if lost:
            self._tell("ERROR", f"{lost} rows of the prediction log are lost")
            self.dropped += lost

    def _loop(self) -> None:
        while not self._stopping.wait(SECONDS_BETWEEN_WRITES):
            self._write_waiting()
        self._next_try = 0.0
        self._write_waiting()
        if self._store is not None:
            self._store.close()

    def _write_waiting(self) -> None:
        """Write batch after batch until nothing waits, or the log refuses."""
        while time.monotonic() >= self._next_try:
            try:
                if not self._unwritten and not self._unwritten_counts:
                    if not self._waiting:
                        return
                    self._unwritten = self._batch()
                    self._unwritten_counts = self._counts.unwritten()
                self._write()
            except StoreError as error:
                self._wait_longer(error)
                return
            except Exception as error:  # noqa: BLE001 - the thread outlives whatever a batch holds
                self.dropped += len(self._unwritten)
                self._unwritten, self._unwritten_counts = [], []
                self._tell("ERROR", f"rows could not be logged: {type(error).__name__}")

    def _write(self) -> None:
        """Write the batch; what is written is forgotten at once, so that nothing counts twice."""
        if self._unwritten:
            self.written += self._append_to_store(self._unwritten)
            if self._hooks.wants("on_prediction"):
                for first in range(0, len(self._unwritten), ROWS_AN_EVENT):
                    event = self._unwritten[first : first + ROWS_AN_EVENT]
                    self._hooks.offer("on_prediction", [logged_row(row) for row in event])
            self._unwritten = []
        if self._unwritten_counts and self._store is not None:
            self._store.add_counts(self._unwritten_counts)
            self._unwritten_counts = []
            self._counts.forget_unwritten()
        if self._back_off:
            self._back_off = 0.0
            self._tell("INFO", "the prediction log is written again")

    def _wait_longer(self, error: StoreError) -> None:
        self.failures += 1
        if not self._back_off:
            self._tell("ERROR", f"the prediction log is not written, and tried again: {error}")
        self._back_off = min(max(2 * self._back_off, SECONDS_BETWEEN_WRITES), LONGEST_BACK_OFF)
        self._next_try = time.monotonic() + self._back_off

    def _batch(self) -> list[PredictionColumns]:
        """Make the rows of the next transaction of what waits."""
        if self._pseudonyms is None:
            log = self._settings.prediction_log
            self._pseudonyms = read_pseudonyms(log.salt, self.place, self._repository.root)
        batch: list[PredictionColumns] = []
        requests: list[AnsweredRequest] = []
        while self._waiting and len(batch) < ROWS_A_BATCH:
            for together in self._next_requests():
                requests += together
                batch += self._stored_rows(together)
            time.sleep(SECONDS_A_BREATH)
        if self._store is not None and self.place != STUB_PLACE:
            self._count(requests)
            time.sleep(SECONDS_A_BREATH)
        return batch

    def _next_requests(self) -> Iterable[list[AnsweredRequest]]:
        """Take the next requests, of some `ROWS_A_BREATH` rows in all; return them by version."""
        by_version: dict[LoadedVersion, list[AnsweredRequest]] = {}
        rows = size = 0
        while self._waiting and rows < ROWS_A_BREATH:
            request = self._waiting.popleft()
            by_version.setdefault(request.loaded, []).append(request)
            rows += request.read.count
            size += request.size
        self._rows_out += rows
        self._bytes_out += size
        return by_version.values()

    def _stored_rows(self, requests: Sequence[AnsweredRequest]) -> list[PredictionColumns]:
        """Return the rows of requests to one version; one that cannot be logged costs no other."""
        try:
            return stored_rows(requests, self._stored_features(requests[0].loaded))
        except Exception as error:  # noqa: BLE001 - the log goes on whatever one request holds
            if len(requests) > 1:
                return [row for request in requests for row in self._stored_rows([request])]
            self.dropped += requests[0].read.count
            self._tell("ERROR", f"a request could not be logged: {type(error).__name__}")
            return []

    def _count(self, requests: Sequence[AnsweredRequest]) -> None:
        try:
            self._counts.add(requests)
        except Exception as error:  # noqa: BLE001 - the log goes on whatever one request holds
            self._tell("ERROR", f"requests could not be counted: {type(error).__name__}")

    def _append_to_store(self, rows: list[PredictionColumns]) -> int:
        """Write rows and return how many; one that the database refuses for what it holds costs
        no other."""
        if self._store is None:
            return 0
        try:
            self._store.append_columns(rows)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - the rest must not wait for it for ever
            if len(rows) > 1:
                middle = len(rows) // 2
                return self._append_to_store(rows[:middle]) + self._append_to_store(rows[middle:])
            self.dropped += 1
            self._tell("ERROR", f"a row could not be logged: {type(error).__name__}")
            return 0
        return len(rows)

    def _stored_features(self, loaded: LoadedVersion) -> StoredFeatures:
        stored = self._stored.get(loaded)
        if stored is None:
            assert self._pseudonyms is not None
            store = self._settings.prediction_log.store_features
            key = self._key_features(loaded.model)
            stored = StoredFeatures(loaded.contract, store, key, self._pseudonyms)
            self._stored[loaded] = stored
        return stored

    def _key_features(self, model: str) -> Sequence[str]:
        try:
            return read_model_settings(self._repository, model).ground_truth.key
        except ModelSettingsError as error:
            self._tell("ERROR", str(error))
            return ()

    def _tell(self, severity: str, text: str) -> None:
        self._log.append(notice_line(severity, text))
