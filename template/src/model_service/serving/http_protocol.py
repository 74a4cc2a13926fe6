"""The HTTP protocol of uvicorn, with one shape for all errors, one write for each answer, and an
end for callers who send or read too slowly."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from model_service.serving.problems import MEDIA_TYPE, ProblemError

WHOLE_BODY = "whole_body"
"""In the state of a request whose body came together with its head, as most do: the body."""
SECONDS_TO_ANSWER_SLOWNESS = 5.0
"""Whoever reads the body answers 408 when its time is over; after so much more nobody waits."""
SECONDS_TO_TAKE_AN_ANSWER = 30.0
LARGEST_HEAD = 64 * 1024
_HEAD = b"HTTP/1.1 "
_INTERIM_HEAD = b"HTTP/1.1 1"
_ANSWER = b"%b%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b"
_CLOSING = b"connection: close\r\n"
_UNREADABLE = "Invalid HTTP request received."
Headers = Sequence[tuple[bytes, bytes]]


TakesWhole = Callable[["WholeRequest"], bool]
"""Answers a request, at once or later, or leaves it to ASGI and returns False. Must not raise."""


class WholeRequest:
    """A `POST` that is here with its body, for an app that answers it by one call.

    ASGI hands bodies and answers over in parts, in a task for each request, which is half of the
    CPU time of a request of one row. uvicorn takes this for the cycle of a request under way: what
    comes after it on the same connection waits, and a server that stops waits for it.
    """

    __slots__ = ("_protocol", "body", "headers", "keep_alive", "response_complete", "target")

    def __init__(
        self, protocol: ProblemProtocol, target: bytes, headers: Headers, body: bytes
    ) -> None:
        self._protocol = protocol
        self.target = target
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.response_complete = False

    def answer(
        self, status: int, media_type: bytes, request_id: str, body: bytes, headers: Headers = ()
    ) -> None:
        """Answer, once. Nothing is sent to a caller who has gone."""
        self.response_complete = True
        standing = self._protocol.server_state.default_headers
        lines = b"".join([b"%b: %b\r\n" % header for header in (*standing, *headers)])
        end = b"" if self.keep_alive else _CLOSING
        told = (media_type, len(body), request_id.encode(), end, body)
        self._protocol.send_whole(self, _ANSWER % (STATUS_LINE[status], lines, *told))


class ProblemProtocol(HttpToolsProtocol):
    """Answers bytes that are no HTTP request by a problem, where uvicorn answers plain text.

    A request must be whole after `seconds`, and its answer be taken in time. Timers are set only
    where bytes are missing, so that quick callers cost nothing.
    """

    cycle: Any
    """What is under way or was answered last: uvicorn's own, a `WholeRequest`, or None."""

    def __init__(self, *, seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self._seconds = seconds
        # What wraps an app, such as a middleware, hides that it can do this, and sees all requests.
        self._takes_whole: TakesWhole | None = getattr(self.app, "takes_whole", None)
        self._held: bytes | None = None
        self._idle_since = 0.0
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
        if isinstance(self.cycle, WholeRequest):
            self.cycle = None
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
        """Begin with a request; what ASGI is told of it is put together where that is asked."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_reading = self._in_head = True
        self._held = None
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Answer a request whose head is whole.

        Raises:
            ValueError: the head is too large, though it came at once, or wants a tunnel.
        """
        self._in_head = False
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError
            return
        came = self._head_bytes + self._piece_bytes  # of the body, too
        if came > LARGEST_HEAD and sum(len(n) + len(v) for n, v in self.headers) > LARGEST_HEAD:
            raise ValueError
        if self._takes_whole is not None and self._may_come_whole():
            self._held = b""
        else:
            self._go_asgis_way()

    def _may_come_whole(self) -> bool:
        """Return whether a request needs nothing that only ASGI's way has."""
        parser, cycle = self.parser, self.cycle
        return (
            parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.root_path
        )

    def on_body(self, body: bytes) -> None:
        """Take bytes of a request's body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        """Take the end of a request's body."""
        if self.parser.should_upgrade():
            return
        self._is_reading = False
        self._piece_bytes = 0
        if self._held is not None:
            request = WholeRequest(self, self.url, self.headers, self._held)
            before, self.cycle = self.cycle, request
            if self._takes_whole(request):  # type: ignore[misc]
                self._held = None
                return
            self.cycle = before
            self._give_to_asgi()
        self.scope["state"][WHOLE_BODY] = bytes(self.cycle.body)
        super().on_message_complete()

    def _give_to_asgi(self) -> None:
        """Give a request to ASGI that was held back."""
        held, self._held = self._held, None
        self._go_asgis_way()
        super().on_body(held)  # type: ignore[arg-type]

    def _go_asgis_way(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def send_whole(self, request: WholeRequest, answer: bytes) -> None:
        """Send the answer of a request that came whole, and go on with what came after it."""
        if self.cycle is request:
            self.cycle = None
        if self.transport.is_closing():  # the caller has gone
            return
        self.transport.write_whole(answer)  # type: ignore[attr-defined]
        if not request.keep_alive:
            self.transport.close()
        if self.pipeline:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._end_if_idle()

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
            while data:
                data = self._parsed(data)
        except Exception:  # noqa: BLE001 - bytes of a stranger
            self._held = None
            if not self.transport.is_closing():
                self.logger.warning(_UNREADABLE)
                self.send_400_response(_UNREADABLE)
        if self._held is not None:
            self._give_to_asgi()
        if not self._is_reading:
            self._wait_no_more()
            self._end_if_idle()
            return
        if self._in_head:
            self._head_bytes += self._piece_bytes  # 0 where another request ended in the piece
            if self._head_bytes > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response(f"The head is larger than {LARGEST_HEAD} bytes.")
        if self._unfinished is None and not self.transport.is_closing():
            self._unfinished = self.loop.call_later(self._seconds, self._is_late)

    def _parsed(self, data: bytes) -> bytes:
        """Parse bytes; return what is to be parsed again.

        The parser does not read the body of a request that offers another protocol (as Java's
        client does each time) and takes it for the next request. So the offer is left out.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            lines = [b"%b: %b\r\n" % one for one in self.headers if one[0] != b"upgrade"]
            asked = self.parser.get_method(), self.url, self.parser.get_http_version().encode()
            self.parser = httptools.HttpRequestParser(self)  # the old one may be at its end
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            return b"%b %b HTTP/%b\r\n%b\r\n" % (*asked, b"".join(lines)) + data[offer.args[0] :]
        return b""

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
        self.timeout_keep_alive_task = None
        if self._is_reading or not self._is_idle():
            return  # the end of the answer sets the timer again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._set_idle_timer(left)
            return
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

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _end_if_idle(self) -> None:
        """Give a connection without a request the time of one that is kept alive.

        A timer that is set stays: when it is over, it is set anew for what is left.
        """
        if self._is_idle():
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._set_idle_timer(self.timeout_keep_alive)

    def _set_idle_timer(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
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

    __slots__ = ("_head", "_transport", "is_closing", "write_whole")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing
        self.write_whole = transport.write  # an answer with its head

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

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
