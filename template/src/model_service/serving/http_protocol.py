"""The HTTP protocol of uvicorn, with one shape for all errors, one write for each answer, and an
end for callers who send or read too slowly."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from model_service.serving.problems import MEDIA_TYPE, ProblemError

WHOLE_REQUEST = "whole_request"
"""In the state of a request whose body came together with its head, as most do: `WholeRequest`."""
SECONDS_TO_ANSWER_SLOWNESS = 5.0
"""Whoever reads the body answers 408 when its time is over; after so much more nobody waits."""
SECONDS_TO_TAKE_AN_ANSWER = 30.0
LARGEST_HEAD = 64 * 1024
_OK = b"HTTP/1.1 200 OK\r\n%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n"
_HEAD = b"HTTP/1.1 "
_INTERIM_HEAD = b"HTTP/1.1 1"


class WholeRequest:
    """A request that is here with its body, and a short way to answer it.

    ASGI hands bodies and answers over in parts, each with a call that may have to wait. A request
    of one row that came whole needs none of these calls.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def body(self) -> bytes | None:
        """The body; None where the caller has gone."""
        return None if self._cycle.disconnected else bytes(self._cycle.body)

    def answer(self, send: Send, media_type: bytes, request_id: str, body: bytes) -> bool:
        """Answer 200, or return False where ASGI's way has to be gone: `send` is somebody else's,
        who wants to see the answer, or the caller does not take answers quickly, or wants the
        connection to end."""
        cycle = self._cycle
        if send != cycle.send or not cycle.keep_alive:
            return False
        if cycle.disconnected or cycle.flow.write_paused:
            return False
        standing = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
        head = _OK % (standing, media_type, len(body), request_id.encode())
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write_whole(head + body)  # type: ignore[attr-defined]
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True


class ProblemProtocol(HttpToolsProtocol):
    """Answers bytes that are no HTTP request by a problem, where uvicorn answers plain text.

    A request must be whole after `seconds`, and its answer be taken in time. Timers are set only
    where bytes are missing, so that quick callers cost nothing.
    """

    def __init__(self, *, seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self._seconds = seconds
        self._answering: RequestResponseCycle | None = None
        self._is_reading = False
        self._in_head = False
        self._head_bytes = 0
        self._piece_bytes = 0
        self._unfinished: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection; one that says nothing is ended like an idle one."""
        super().connection_made(transport)
        self.transport = _WholeAnswers(transport)  # type: ignore[assignment]
        self._end_if_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        if self._answering is not None:  # of several requests that came at once, the first
            self._answering.disconnected = True
            self._answering.message_event.set()
        self._wait_no_more()
        self.resume_writing()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        """Begin with a request."""
        super().on_message_begin()
        self._is_reading = self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Answer a request whose head is whole.

        Raises:
            ValueError: the head is too large, though it came at once.
        """
        self._in_head = False
        came = self._head_bytes + self._piece_bytes  # of the body, too
        if came > LARGEST_HEAD and sum(len(n) + len(v) for n, v in self.headers) > LARGEST_HEAD:
            raise ValueError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take the end of a request's body."""
        self._is_reading = False
        self.scope["state"][WHOLE_REQUEST] = WholeRequest(self.cycle)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Finish an answer, of which a HEAD request has only the head."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer and close the connection."""
        self._refuse(ProblemError("malformed-http", f"{msg} Use an ordinary HTTP/1.1 client."))

    def _refuse(self, problem: ProblemError) -> None:
        """Answer what never becomes a request, and close the connection."""
        request_id = secrets.token_hex(8)
        body = problem.encode(request_id)
        headers: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(STATUS_LINE[problem.status] + b"".join((*lines, b"\r\n", body)))
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes in; what the parser's callbacks cannot read is a malformed request too."""
        self._piece_bytes = len(data)
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001 - bytes of a stranger; uvicorn would only log it
            if not self.transport.is_closing():
                self.send_400_response("Invalid HTTP request received.")
        if not self._is_reading:
            self._wait_no_more()
            self._end_if_idle()
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The head is larger than {LARGEST_HEAD} bytes.")
        if self._unfinished is None and not self.transport.is_closing():
            self._unfinished = self.loop.call_later(self._seconds, self._is_late)

    def pause_writing(self) -> None:
        """Wait for a caller who does not take its answer, but not for ever."""
        super().pause_writing()
        if self._untaken is None:
            self._untaken = self.loop.call_later(SECONDS_TO_TAKE_AN_ANSWER, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with an answer that is being taken."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def timeout_keep_alive_handler(self) -> None:
        """End a connection on which nothing happens, an answer that is not taken included."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _is_late(self) -> None:
        """End a request that is not whole in time."""
        self._unfinished = None
        if self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(ProblemError("request-timeout"))
        elif self.cycle.response_complete:
            self.transport.close()
        else:
            self._unfinished = self.loop.call_later(
                SECONDS_TO_ANSWER_SLOWNESS, self.transport.abort
            )

    def _end_if_idle(self) -> None:
        """Give a connection without a request the time of one that is kept alive."""
        if self.timeout_keep_alive_task is None and (
            self.cycle is None or self.cycle.response_complete
        ):
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _wait_no_more(self) -> None:
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None


class _WholeAnswers:
    """A transport that keeps the head of an answer back until its body comes.

    uvicorn writes them one after the other, which costs two calls of the kernel: a fifth of all the
    CPU time of a request of one row.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write_whole(self, data: bytes) -> None:
        """Write an answer with its head."""
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(_HEAD) and not data.startswith(_INTERIM_HEAD):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()
