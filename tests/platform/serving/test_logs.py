"""The log never blocks, never loses a line silently, and has one shape for everybody."""

from __future__ import annotations

import io
import logging
import threading

import msgspec
import pytest

from model_service.registry.loaded_version import ModelError
from model_service.serving import logs
from model_service.serving.logs import JsonHandler, LogWriter, event_line, failure_line


class Stuck(io.RawIOBase):
    """A stream whose reader does not read until it is let."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def write(self, content: object) -> int:
        self.go_on.wait(10)
        return len(content)  # type: ignore[arg-type]


def written(stream: io.BytesIO) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


def test_lines_that_cannot_be_written_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "MOST_LINES", 10)
    stream = Stuck()
    writer = LogWriter(stream, "acme")  # type: ignore[arg-type]
    writer.start()
    for _ in range(25):
        writer.append(event_line("INFO", "x", model="m", version="1"))
    assert writer.dropped == 15
    stream.go_on.set()
    writer.stop()


def test_records_of_libraries_have_the_same_shape_and_quote_no_exception() -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream, "acme")
    logger = logging.getLogger("tests.some.library")
    logger.propagate = False
    logger.addHandler(JsonHandler(writer))
    try:
        float("secret 4711")
    except ValueError:
        logger.exception("it went %s", "wrong")
    writer.start()
    writer.stop()
    (line,) = written(stream)
    assert line["body"] == "it went wrong"
    assert line["severity_text"] == "ERROR"
    assert line["service.name"] == "acme"
    assert line["error.type"] == "ValueError"
    assert "test_logs.py" in str(line["exception.stacktrace"])
    assert "could not convert" not in stream.getvalue().decode()


def test_a_failure_tells_our_own_reason_and_never_that_of_the_models_code() -> None:
    ours = failure_line(ModelError("The model answered NaN."), model="m", version="1")
    assert ours.body == "prediction failed: The model answered NaN."
    theirs = ModelError("The model raised ValueError: 4711")
    theirs.__cause__ = ValueError("4711")
    line = failure_line(theirs, model="m", version="1")
    assert line.body == "prediction failed"
    assert line.error_type == "ModelError from ValueError"


def test_stopping_writes_what_is_left() -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream, "acme")
    writer.start()
    for _ in range(1000):
        writer.append(event_line("INFO", "x", model="m", version="1"))
    writer.stop()
    assert len(written(stream)) == 1000
