"""The body of a request: its declared type and encoding, its limits, its bytes."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterable

import msgspec
from starlette.types import Message, Receive

from model_service.serving.problems import ProblemError

_JSON = re.compile(rb"application/(?:[\w.-]+\+)?json\Z")
_UTF8 = (b"utf-8", b"utf8", b"us-ascii")
_SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32

FREE_BYTES = 64 * 1024
"""A body up to this size is not counted: who asks for a few rows is not refused for others."""
MOST_BYTES_AT_ONCE = 64 * 1024 * 1024

CLIENT_GONE = 499
"""The status in logs and metrics of a request whose caller went away: nobody was sent it."""


class ClientGoneError(Exception):
    """The caller closed the connection before the body was whole."""


class LargeBodies:
    """What all large bodies that are under way may hold together, as sent and decompressed: callers
    who send slowly would fill the memory, each within the limit of one body."""

    def __init__(self, body_bytes: int) -> None:
        self.bytes_left = max(MOST_BYTES_AT_ONCE, 2 * body_bytes)


class CountedBody:
    """Receives the body of one request; `release` when it is answered."""

    __slots__ = ("_bodies", "_counted", "_receive", "_size")

    def __init__(self, bodies: LargeBodies, receive: Receive) -> None:
        self._bodies = bodies
        self._receive = receive
        self._size = self._counted = 0

    async def __call__(self) -> Message:
        """Receive the next part."""
        message = await self._receive()
        self.grow(len(message.get("body", b"")))
        return message

    def grow(self, size: int) -> None:
        """Count more bytes.

        Raises:
            ProblemError: all bodies together would hold too much.
        """
        self._size += size
        more = self._size - self._counted
        if self._size <= FREE_BYTES:
            return
        if more > self._bodies.bytes_left:
            raise ProblemError(
                "queue-full",
                "Too many large requests are under way. Wait a second, or send fewer rows at once.",
                headers=((b"retry-after", b"1"),),
            )
        self._bodies.bytes_left -= more
        self._counted = self._size

    def release(self) -> None:
        """Count nothing of it any more."""
        self._bodies.bytes_left += self._counted
        self._counted = 0


class Head(msgspec.Struct, gc=False):
    """The headers that matter here, None where one is absent."""

    content_type: bytes | None = None
    encoding: bytes | None = None
    length: bytes | None = None
    request_id: str | None = None


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Pick out the headers; a request id that is not safe to repeat counts as absent."""
    head = Head()
    for name, value in headers:
        if name == b"content-length":
            head.length = value
        elif name == b"content-type":
            head.content_type = value
        elif name == b"content-encoding":
            head.encoding = value
        elif name == b"x-request-id":
            given = value.decode("latin-1")
            head.request_id = given if _SAFE_REQUEST_ID.match(given) else None
    return head


async def read_body(
    receive: Receive, head: Head, limit: int, seconds: float, here: bytes | None = None
) -> bytes:
    """Return the body, decompressed. `limit` in bytes holds before and after decompression. `here`
    is the body where it came with the head: nothing need watch how long it takes.

    Raises:
        ProblemError: it is too large (also together with others), too slow, or of a type or an
            encoding that is not taken.
        ClientGoneError: the caller went away.
    """
    if here is None:
        _check_head(head, limit)
        here = await _whole(receive, limit, seconds)
    body = whole_body(head, here, limit)
    if head.encoding is not None and isinstance(receive, CountedBody):
        receive.grow(len(body))
    return body


def whole_body(head: Head, body: bytes, limit: int) -> bytes:
    """Return a body that is here, decompressed. `limit` in bytes holds before and after that.

    Raises:
        ProblemError: it is too large, or of a type or an encoding that is not taken.
    """
    _check_head(head, limit)
    if len(body) > limit:
        raise _too_large(limit)
    if head.encoding is not None:
        body = _decompressed(body, head.encoding, limit)
    if not body:
        raise ProblemError("invalid-json", 'The body is empty. Send {"rows": [{feature: value}]}.')
    return body


def _check_head(head: Head, limit: int) -> None:
    if head.content_type is not None and head.content_type != b"application/json":
        _check_type(head.content_type)
    if head.length is not None and len(head.length) > 5 and int(head.length) > limit:
        raise _too_large(limit)


async def _whole(receive: Receive, limit: int, seconds: float) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                _check_connection(message)
                body += message.get("body", b"")
                if len(body) > limit:
                    raise _too_large(limit)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ProblemError(
            "request-timeout",
            f"The body was not whole after {seconds:g} seconds. Send it at once, or fewer rows.",
            headers=((b"connection", b"close"),),
        ) from None


def _check_connection(message: Message) -> None:
    if message["type"] == "http.disconnect":
        raise ClientGoneError


def _check_type(content_type: bytes) -> None:
    media_type, *parameters = content_type.lower().split(b";")
    if not _JSON.match(media_type.strip()):
        raise ProblemError(
            "unsupported-media-type",
            "Only JSON is read here. Send the header Content-Type: application/json.",
        )
    for parameter in parameters:
        name, _, value = parameter.strip().partition(b"=")
        if name == b"charset" and value.strip(b'" ') not in _UTF8:
            raise ProblemError("unsupported-media-type", "Send the JSON in UTF-8.")


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        "body-too-large",
        f"At most {limit} bytes are read, also after decompression. Send the rows in several "
        "requests.",
    )


def _decompressed(body: bytes, encoding: bytes, limit: int) -> bytes:
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip", b"deflate"):
        raise ProblemError(
            "unsupported-media-type",
            "Content-Encoding may be gzip or deflate, or be left out.",
            headers=((b"accept-encoding", b"gzip, deflate"),),
        )
    # What is called deflate comes with a zlib header or, from some clients, without.
    raw_deflate = name == b"deflate" and (not body or body[0] & 0x0F != 8)
    reader = zlib.decompressobj(-zlib.MAX_WBITS if raw_deflate else _GZIP_OR_ZLIB)
    try:
        content = reader.decompress(body, limit + 1)
    except zlib.error:
        content = b""
    if len(content) > limit:
        raise _too_large(limit)
    if not reader.eof or reader.unused_data:
        raise ProblemError(
            "invalid-json", f"The body is not whole {name.decode()} data, as its header says."
        )
    return content
