"""Log lines as JSON: one a request, and those of the standard library in the same shape.

The event loop appends to a bounded queue; one thread encodes and writes. When the reader of the
log is too slow, lines are dropped and counted: a full pipe never delays an answer. No line holds a
value of a feature.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import IO

import msgspec

from model_service.registry.loaded_version import ModelError

MOST_LINES = 50_000
SECONDS_BETWEEN_WRITES = 0.1


class Line(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One line; names follow OpenTelemetry where it has one. `at` is in seconds since 1970."""

    at: float = msgspec.field(name="timestamp")
    severity: str = msgspec.field(name="severity_text")
    body: str
    service: str | None = msgspec.field(default=None, name="service.name")
    logger: str | None = None
    request_id: str | None = None
    method: str | None = msgspec.field(default=None, name="http.request.method")
    route: str | None = msgspec.field(default=None, name="http.route")
    status: int | None = msgspec.field(default=None, name="http.response.status_code")
    model: str | None = msgspec.field(default=None, name="ml.model.name")
    version: str | None = msgspec.field(default=None, name="ml.model.version")
    alias: str | None = msgspec.field(default=None, name="ml.model.alias")
    outcome: str | None = msgspec.field(default=None, name="ml.outcome")
    rows: int | None = msgspec.field(default=None, name="ml.rows")
    milliseconds: float | None = msgspec.field(default=None, name="duration_ms")
    trace_id: str | None = None
    span_id: str | None = None
    error_type: str | None = msgspec.field(default=None, name="error.type")
    stack: str | None = msgspec.field(default=None, name="exception.stacktrace")


class LogWriter:
    """Writes lines from a thread of its own. `dropped` counts the lines that were lost."""

    def __init__(self, stream: IO[bytes], service: str) -> None:
        self.dropped = 0
        self.on_request: Callable[[Line], None] | None = None
        self._stream = stream
        self._service = service
        self._lines: deque[Line] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._encoder = msgspec.json.Encoder()
        self._second = -1
        self._until_second = b""

    def append(self, line: Line) -> None:
        """Take a line to be written soon; never blocks. Tracing hears of those of requests."""
        if self.on_request is not None and line.status is not None:
            self.on_request(line)
        if len(self._lines) >= MOST_LINES:
            self.dropped += 1
            return
        self._lines.append(line)

    def start(self) -> None:
        """Begin to write; lines appended before are kept."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._loop, name="log writer", daemon=True)
            self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Write what is left, for at most `seconds`."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(seconds)
            self._thread = None

    def _loop(self) -> None:
        while not self._stopping.wait(SECONDS_BETWEEN_WRITES):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = []
        while self._lines:
            line = self._lines.popleft()
            line.service = self._service
            lines.append(line)
        if not lines:
            return
        try:
            encoded = b"".join([self._encode(line) for line in lines])
            self._stream.write(encoded)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more
            self.dropped += len(lines)

    def _encode(self, line: Line) -> bytes:
        second = int(line.at)
        if second != self._second:  # lines come in the order of time, many in the same second
            self._second = second
            self._until_second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        # The struct holds a number, so that the event loop need not put the moment into words.
        encoded = self._encoder.encode(line)
        milliseconds = int((line.at - second) * 1000)
        after_timestamp = encoded[encoded.index(b",") :]
        return b'{"timestamp":"%b.%03dZ"%b\n' % (self._until_second, milliseconds, after_timestamp)


class JsonHandler(logging.Handler):
    """Puts the records of the standard library among the other lines."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Append one record. Of an exception, only its type and its frames are kept."""
        try:
            self._writer.append(_line_of(record))
        except Exception:  # noqa: BLE001 - a log line never stops what it tells of
            self.handleError(record)


def request_line(
    *,
    request_id: str,
    method: str,
    route: str,
    status: int,
    seconds: float,
    model: str | None = None,
    version: str | None = None,
    alias: str | None = None,
    outcome: str | None = None,
    rows: int | None = None,
) -> Line:
    """Return the line of one answered request."""
    return Line(
        at=time.time(),
        severity="INFO" if status < 500 else "ERROR",
        body="request",
        request_id=request_id,
        method=method,
        route=route,
        status=status,
        model=model,
        version=version,
        alias=alias,
        outcome=outcome,
        rows=rows,
        milliseconds=round(seconds * 1000, 3),
    )


def event_line(severity: str, body: str, *, model: str, version: str) -> Line:
    """Return a line about a version, such as that it failed to load."""
    return Line(at=time.time(), severity=severity, body=body, model=model, version=version)


def notice_line(severity: str, body: str) -> Line:
    """Return a line about the service as a whole."""
    return Line(at=time.time(), severity=severity, body=body)


def failure_line(error: BaseException, *, model: str, version: str) -> Line:
    """Return the line of a model that gave no answer.

    What the model's own code raised is told by its type and place only: its text may quote values.
    """
    ours = isinstance(error, ModelError) and error.__cause__ is None
    return Line(
        at=time.time(),
        severity="ERROR",
        body=f"prediction failed: {error}" if ours else "prediction failed",
        model=model,
        version=version,
        error_type=_types_of(error),
        stack="".join(traceback.format_tb(error.__traceback__)),
    )


def _line_of(record: logging.LogRecord) -> Line:
    error = record.exc_info[1] if record.exc_info else None
    return Line(
        at=record.created,
        severity=record.levelname,
        body=record.getMessage().strip(),
        logger=record.name,
        error_type=_types_of(error) if error else None,
        stack="".join(traceback.format_tb(error.__traceback__)) if error else None,
    )


def _types_of(error: BaseException) -> str:
    """Return the type of an error and, after it, of the one that caused it."""
    name, cause = type(error).__name__, error.__cause__
    return f"{name} from {type(cause).__name__}" if cause else name
