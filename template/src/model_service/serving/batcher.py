"""Micro-batching: requests that arrive together are answered by one call of the model.

Whatever arrived in one turn of the event loop for a version is one call; nobody waits for a timer.
A call that would hold the loop for long runs in the version's own thread instead, and what arrives
meanwhile is the next batch. A batch that fails is split until only the rows at fault fail. A model
may ask to have each request for itself: `batching: false` in its `model.yaml`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import msgspec

from model_service.contract.rows import RowValues
from model_service.serving.call_cost import CallCost
from model_service.serving.row_answers import RowAnswer

LONGEST_INLINE_SECONDS = 0.005
"""A call that takes longer is moved to a thread, so that health checks are answered meanwhile."""
FIRST_INLINE_ROWS = 256
LARGEST_INLINE_SPLIT = 64
"""A larger batch that fails is split in the thread: each split calls the model again."""


class QueueFullError(Exception):
    """More rows wait than the limit allows."""


class DeadlineError(Exception):
    """The answer did not come in time."""


class Answers(msgspec.Struct, gc=False):
    """Answers by row: `failures` says why a row has none, and it is None then. The model took
    `seconds` for them and for the rows that were answered together with them."""

    rows: list[RowAnswer | None]
    failures: dict[int, str]
    seconds: float = 0.0

    def part(self, start: int, stop: int) -> Answers:
        """Return the answers of the rows from `start` to before `stop`."""
        failures = self.failures
        if failures:
            failures = {i - start: why for i, why in failures.items() if start <= i < stop}
        return Answers(self.rows[start:stop], failures, self.seconds)


AnswerRows = Callable[[Sequence[RowValues]], list[RowAnswer]]
OnAnswers = Callable[[Answers | None], None]
"""Takes the answers, or None where they did not come in time. Must not raise: what it does is done
between the answers of its neighbours."""
OnFailure = Callable[[BaseException], None]


class _Waiting(msgspec.Struct, gc=False):
    rows: list[RowValues]
    on_answers: OnAnswers
    future: asyncio.Future[Answers] | None = None
    timer: asyncio.TimerHandle | None = None
    is_over: bool = False


class Batcher:
    """Collects the rows of concurrent requests for one version.

    Everything but the model itself runs in the event loop; no locks are needed.
    """

    def __init__(
        self,
        answer_rows: AnswerRows,
        *,
        runs_inline: bool,
        queue_rows: int,
        queue_seconds: float,
        seconds: float,
        batches: bool = True,
        name: str = "model",
        on_failure: OnFailure | None = None,
    ) -> None:
        self._answer_rows = answer_rows
        self._inline_rows = FIRST_INLINE_ROWS if runs_inline else 0
        self._may_run_inline = runs_inline
        self._queue_rows = queue_rows
        self._queue_seconds = queue_seconds
        self._cost = CallCost()
        self._rows_waiting = 0
        self._seconds = seconds
        self._batches = batches
        self._on_failure = on_failure
        self._waiting: list[_Waiting] = []
        self._rows_held = 0
        self._flush_is_due = False
        self._thread = _ModelThread(name)
        # A version that is no longer served ends its thread once no request holds it any more.
        weakref.finalize(self, self._thread.close)
        self._thread_is_busy = False
        self._busy_since = 0.0

    @property
    def rows_held(self) -> int:
        """Rows that wait or are being answered."""
        return self._rows_held

    def submit(self, rows: list[RowValues]) -> asyncio.Future[Answers]:
        """Take rows in; the future gives their answers.

        The future raises `DeadlineError` when the answer takes longer than the limit.

        Raises:
            QueueFullError: as `ask` says.
        """
        future: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()

        def settle(answers: Answers | None) -> None:
            if future.done():  # its caller has gone
                return
            if answers is None:
                future.set_exception(DeadlineError())
            else:
                future.set_result(answers)

        self.ask(rows, settle, future)
        return future

    def ask(
        self,
        rows: list[RowValues],
        on_answers: OnAnswers,
        future: asyncio.Future[Answers] | None = None,
    ) -> None:
        """Take rows in; `on_answers` is called in the event loop, after this has returned. Rows
        whose `future` is over by then, because their caller has gone, are not predicted.

        Raises:
            QueueFullError: so many rows wait already that these would wait too long, or the model
                hangs in a call that was given up. A request before which none waits is always
                taken.
        """
        if self._rows_held and self._rows_held + len(rows) > self._queue_rows:
            raise QueueFullError
        loop = asyncio.get_running_loop()
        if self._thread_is_busy and loop.time() - self._busy_since > self._seconds:
            raise QueueFullError
        calls = 1 if self._batches else len(self._waiting)
        if self._waiting and self._cost.expected(self._rows_waiting, calls) > self._queue_seconds:
            raise QueueFullError
        waiting = _Waiting(rows, on_answers, future)
        self._rows_held += len(rows)
        self._rows_waiting += len(rows)
        self._waiting.append(waiting)
        if self._thread_is_busy:
            self._set_deadline(waiting)
        elif not self._flush_is_due:
            self._flush_is_due = True
            loop.call_soon(self._flush)

    def close(self) -> None:
        """Let the thread end once it has answered what it holds."""
        self._thread.close()

    def _set_deadline(self, waiting: _Waiting) -> None:
        if waiting.timer is None:
            loop = asyncio.get_running_loop()
            waiting.timer = loop.call_later(self._seconds, self._expire, waiting)

    def _expire(self, waiting: _Waiting) -> None:
        if waiting.is_over:
            return
        waiting.is_over = True
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            self._rows_waiting -= len(waiting.rows)
            self._rows_held -= len(waiting.rows)
        waiting.on_answers(None)

    def _flush(self) -> None:
        self._flush_is_due = False
        batch, self._waiting = self._waiting, []
        taken = self._rows_waiting
        if not self._batches and len(batch) > 1:
            batch, self._waiting = batch[:1], batch[1:]
            taken = len(batch[0].rows)
        self._rows_waiting -= taken
        for waiting in [w for w in batch if w.future and w.future.done()]:  # its caller has gone
            self._rows_held -= len(waiting.rows)
            batch.remove(waiting)
        if batch:
            rows = batch[0].rows if len(batch) == 1 else [row for w in batch for row in w.rows]
            if len(rows) > self._inline_rows or not self._answer_inline(batch, rows):
                self._run_in_thread(batch, rows)
        if self._waiting and not self._thread_is_busy and not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _answer_inline(self, batch: list[_Waiting], rows: list[RowValues]) -> bool:
        """Answer in the loop; False if the batch fails and splitting it would hold the loop."""
        started = time.perf_counter()
        try:
            answers = self._answered(rows)
        except BaseException as error:  # noqa: BLE001 - nothing a model does may stop the service
            if len(rows) > LARGEST_INLINE_SPLIT:
                return False
            answers = self._split(rows, error)
        answers.seconds = time.perf_counter() - started
        self._learn(len(rows), answers.seconds)
        self._deliver(batch, answers)
        return True

    def _run_in_thread(self, batch: list[_Waiting], rows: list[RowValues]) -> None:
        self._thread_is_busy = True
        for waiting in batch:
            self._set_deadline(waiting)
        loop = asyncio.get_running_loop()
        self._busy_since = loop.time()

        def work() -> None:
            started = time.perf_counter()
            answers = self._answer(rows)
            answers.seconds = time.perf_counter() - started
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._thread_is_done, batch, answers)

        self._thread.run(work)

    def _thread_is_done(self, batch: list[_Waiting], answers: Answers) -> None:
        self._thread_is_busy = False
        self._learn(len(answers.rows), answers.seconds)
        self._deliver(batch, answers)
        if self._waiting:
            self._flush()

    def _learn(self, rows: int, seconds: float) -> None:
        """Remember what a call costs, and how many rows the loop may answer by itself without being
        held up."""
        self._cost.learn(rows, seconds)
        if not self._may_run_inline:
            return
        if seconds > LONGEST_INLINE_SECONDS:
            self._inline_rows = min(self._inline_rows, rows // 2)
        elif rows > self._inline_rows:
            self._inline_rows = rows

    def _deliver(self, batch: list[_Waiting], answers: Answers) -> None:
        start, whole = 0, len(batch) == 1
        for waiting in batch:
            stop = start + len(waiting.rows)
            self._rows_held -= stop - start
            if waiting.timer is not None:
                waiting.timer.cancel()
            if not waiting.is_over:
                waiting.is_over = True
                waiting.on_answers(answers if whole else answers.part(start, stop))
            start = stop

    def _answered(self, rows: Sequence[RowValues]) -> Answers:
        answered: list[RowAnswer | None] = [*self._answer_rows(rows)]
        if len(answered) != len(rows):
            raise ValueError(f"the model gave {len(answered)} answers for {len(rows)} rows")
        return Answers(answered, {})

    def _answer(self, rows: Sequence[RowValues]) -> Answers:
        """Return an answer or a failure for each row. Never raises."""
        try:
            return self._answered(rows)
        except BaseException as error:  # noqa: BLE001 - nothing a model does may stop the service
            return self._split(rows, error)

    def _split(self, rows: Sequence[RowValues], error: BaseException) -> Answers:
        """Answer the halves of a batch that failed, down to the row at fault."""
        if len(rows) == 1:
            self._report(error)
            return Answers([None], {0: type(error.__cause__ or error).__name__})
        middle = len(rows) // 2
        return _joined(self._answer(rows[:middle]), self._answer(rows[middle:]))

    def _report(self, error: BaseException) -> None:
        if self._on_failure is not None:
            self._on_failure(error)


def _joined(first: Answers, second: Answers) -> Answers:
    """Return the answers of two neighbouring parts of a batch as one."""
    offset = len(first.rows)
    failures = first.failures | {offset + i: why for i, why in second.failures.items()}
    return Answers([*first.rows, *second.rows], failures)


class _ModelThread:
    """One thread that starts with its first work. It never keeps the process from ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
            self._thread.start()
        self._work.put(work)

    def close(self) -> None:
        self._work.put(None)

    def _loop(self) -> None:
        while (work := self._work.get()) is not None:
            work()
