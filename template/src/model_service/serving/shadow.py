"""A shadow: asked what others have answered, in a thread of its own, and only compared.

What it does never delays or fails an answer: when it is too slow, requests are dropped and counted.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Mapping, Sequence

import msgspec

from model_service.contract.rows import BodyError, ReadRows
from model_service.registry.golden import is_same
from model_service.registry.loaded_version import LoadedVersion
from model_service.serving.answered_request import AnsweredRequest
from model_service.serving.logs import Line, LogWriter, failure_line
from model_service.serving.metrics import Tally
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.row_answers import RowAnswer, shares_of

MOST_WAITING_REQUESTS = 1_000
MOST_WAITING_BYTES = 32 * 1024 * 1024


class Asked(msgspec.Struct, gc=False):
    """A request that was answered: `answers` holds None where a row had no answer."""

    request_id: str
    body: bytes
    answers: Sequence[RowAnswer | None]


class Shadow:
    """One version as a shadow. `rows` counts rows by outcome."""

    def __init__(
        self,
        loaded: LoadedVersion,
        rows: Tally,
        log: LogWriter,
        recorder: PredictionRecorder,
    ) -> None:
        self.rows = rows
        self._loaded = loaded
        self._shares = shares_of(loaded.contract.output.classes)
        self._log = log
        self._recorder = recorder
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._bytes_in = 0
        self._bytes_out = 0
        self._thread: threading.Thread | None = None

    def offer(self, asked: Asked) -> None:
        """Take a request to be asked later, unless too much waits; never blocks."""
        waiting = self._bytes_in - self._bytes_out
        is_full = self._waiting.qsize() >= MOST_WAITING_REQUESTS
        if is_full or waiting + len(asked.body) > MOST_WAITING_BYTES:
            self.rows["dropped"] += len(asked.answers)
            return
        self._bytes_in += len(asked.body)
        self._waiting.put(asked)
        if self._thread is None:
            # The thread holds the queue only: it ends when nobody can offer any more.
            weakref.finalize(self, self._waiting.put, None)
            self._thread = threading.Thread(
                target=_answer_all,
                args=(weakref.ref(self), self._waiting),
                name=f"shadow {self._loaded.model} {self._loaded.version}",
                daemon=True,
            )
            self._thread.start()

    def ask(self, asked: Asked) -> None:
        """Answer one request as the shadow would have, and count how it compares."""
        self._bytes_out += len(asked.body)
        expected = {row: answer for row, answer in enumerate(asked.answers) if answer is not None}
        started = time.perf_counter()
        try:
            read, entity = self._loaded.reader.read_body(asked.body)
            answers = self._answers(read, expected)
        except BodyError:
            self.rows["refused"] += len(expected)
            return
        except BaseException as error:  # noqa: BLE001 - whatever it does, it is only a shadow
            self.rows["failed"] += len(expected)
            model, version = self._loaded.model, self._loaded.version
            self._log.append(failure_line(error, model=model, version=version))
            return
        seconds = time.perf_counter() - started
        differing = 0
        for row, was in expected.items():
            answer = answers.get(row)
            if answer is None:
                self.rows["refused"] += 1
            elif is_same(was.value, answer.value):
                self.rows["agrees"] += 1
            else:
                differing += 1
        self.rows["differs"] += differing
        if differing:
            self._log.append(self._line(asked.request_id, differing))
        if answers:
            self._recorder.append(
                AnsweredRequest(
                    self._loaded,
                    "shadow",
                    asked.request_id,
                    entity,
                    asked.body if read.warnings else b"",
                    read,
                    [answers.get(row) for row in range(read.count)],
                    time.time(),
                    seconds,
                    [was.prediction_id if was else None for was in asked.answers],
                    len(asked.body),
                )
            )

    def _answers(self, read: ReadRows, expected: Mapping[int, RowAnswer]) -> dict[int, RowAnswer]:
        """Return the shadow's answers to the rows that had one, by row; rows that its contract
        refuses are left out. Each has the id of the answer that the caller got, and the shadow's
        version."""
        if not read.values:
            return {}
        predicted = self._loaded.predict(read.values)
        answers = {}
        for index, row in enumerate(read.positions):
            if row not in expected:
                continue
            new_id = f"{expected[row].prediction_id}.shadow-{self._loaded.version}"
            answer = answers[row] = RowAnswer(new_id, predicted.values[index])
            if predicted.probabilities is not None:
                shares = predicted.probabilities[index].tolist()
                answer.probabilities = self._shares(*shares)
            answer.warnings = read.warnings.get(row, ())
        return answers

    def _line(self, request_id: str, differing: int) -> Line:
        return Line(
            at=time.time(),
            severity="INFO",
            body="shadow differs",
            request_id=request_id,
            model=self._loaded.model,
            version=self._loaded.version,
            alias="shadow",
            rows=differing,
        )


def _answer_all(shadow: weakref.ref[Shadow], waiting: queue.SimpleQueue[Asked | None]) -> None:
    while (asked := waiting.get()) is not None:
        held = shadow()
        if held is None:
            return
        held.ask(asked)
        del held
