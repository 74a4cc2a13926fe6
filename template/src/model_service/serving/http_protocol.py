"""The HTTP protocol of uvicorn, with the errors that never reach the app in the service's shape."""

from __future__ import annotations

import secrets
from typing import Any

from model_service.serving.problems import MEDIA_TYPE, ProblemError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class ProblemProtocol(HttpToolsProtocol):
    """Answers bytes that are no HTTP request by a problem, where uvicorn answers plain text."""

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
        except Exception as error:  # noqa: BLE001: bytes of a stranger; uvicorn would only log it
            self._refuse(error)

    def _refuse(self, _: Any) -> None:
        if not self.transport.is_closing():
            self.send_400_response("Invalid HTTP request received.")
