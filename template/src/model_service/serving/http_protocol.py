"""The HTTP protocol of uvicorn, with one shape for all errors and one write for each answer."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from model_service.serving.problems import MEDIA_TYPE, ProblemError

_HEAD = b"HTTP/1.1 "
_INTERIM_HEAD = b"HTTP/1.1 1"


class ProblemProtocol(HttpToolsProtocol):
    """Answers bytes that are no HTTP request by a problem, where uvicorn answers plain text."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(transport)
        self.transport = _WholeAnswers(transport)  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        """Finish an answer, of which a HEAD request has only the head."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer and close the connection."""
        request_id = secrets.token_hex(8)
        problem = ProblemError("malformed-http", f"{msg} Use an ordinary HTTP/1.1 client.")
        body = problem.encode(request_id)
        headers: list[tuple[bytes, bytes]] = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (b"".join(lines), body))
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes in; what the parser's callbacks cannot read is a malformed request too."""
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001 - bytes of a stranger; uvicorn would only log it
            if not self.transport.is_closing():
                self.send_400_response("Invalid HTTP request received.")


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
