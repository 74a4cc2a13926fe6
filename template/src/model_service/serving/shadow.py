"""A shadow: asked what others have answered, in a thread of its own, and only compared.

What it does never delays or fails an answer: when it is too slow, requests are dropped and counted.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import msgspec

from model_service.contract.rows import BodyError
from model_service.registry.golden import is_same
from model_service.registry.loaded_version import LoadedVersion
from model_service.serving.logs import Line, LogWriter, failure_line
from model_service.serving.metrics import Tally

MOST_WAITING_REQUESTS = 1_000
MOST_WAITING_BYTES = 32 * 1024 * 1024


class Asked(msgspec.Struct, gc=False):
    """A request that was answered: `values` holds None where a row had no answer."""

    request_id: str
    body: bytes
    values: Sequence[Any]


class Shadow:
    """One version as a shadow. `rows` counts rows by outcome."""

    def __init__(self, loaded: LoadedVersion, rows: Tally, log: LogWriter) -> None:
        self.rows = rows
        self._loaded = loaded
        self._log = log
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._bytes_in = 0
        self._bytes_out = 0
        self._thread: threading.Thread | None = None

    def offer(self, asked: Asked) -> None:
        """Take a request to be asked later, unless too much waits; never blocks."""
        waiting = self._bytes_in - self._bytes_out
        is_full = self._waiting.qsize() >= MOST_WAITING_REQUESTS
        if is_full or waiting + len(asked.body) > MOST_WAITING_BYTES:
            self.rows["dropped"] += len(asked.values)
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
        expected = [(row, value) for row, value in enumerate(asked.values) if value is not None]
        try:
            answers = self._answers(asked.body)
        except BodyError:
            answers = {}
        except BaseException as error:  # noqa: BLE001 - whatever it does, it is only a shadow
            self.rows["failed"] += len(expected)
            model, version = self._loaded.model, self._loaded.version
            self._log.append(failure_line(error, model=model, version=version))
            return
        differing = 0
        for row, value in expected:
            if row not in answers:
                self.rows["refused"] += 1
            elif is_same(value, answers[row]):
                self.rows["agrees"] += 1
            else:
                differing += 1
        self.rows["differs"] += differing
        if differing:
            self._log.append(self._line(asked.request_id, differing))

    def _answers(self, body: bytes) -> dict[int, Any]:
        """Return the shadow's values by row; rows that its contract refuses are left out."""
        read, _ = self._loaded.reader.read_body(body)
        if not read.values:
            return {}
        return dict(zip(read.positions, self._loaded.predict(read.values).values, strict=True))

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
