"""Callers that ask a service over and over, each on a connection of its own, and keep the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import httptools
import msgspec

UNANSWERED = 0
"""The status of a request whose connection was closed or that took longer than a caller waits."""


class Exchange(msgspec.Struct, frozen=True):
    """One request: when it was answered, after how many seconds, and with which status."""

    at: float
    seconds: float
    status: int


class _Connection(asyncio.Protocol):
    """One connection: sends a request, and hands over the status of its answer."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._end(UNANSWERED)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        self._end(status)

    async def ask(self, request: bytes, seconds: float) -> int:
        """Send a request and return its status."""
        if self._transport is None:
            return UNANSWERED
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await asyncio.wait_for(self._answer, seconds)
        except TimeoutError:
            self.close()
            return UNANSWERED

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _end(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


def request_of(host: str, path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the bytes of a POST of JSON."""
    stated = [("host", host), ("content-type", "application/json"), *headers]
    stated.append(("content-length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in stated)
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def ask_for(
    host: str,
    port: int,
    requests: Sequence[bytes],
    *,
    callers: int,
    seconds: float,
    patience: float,
    tls: bool = False,
) -> list[Exchange]:
    """Let so many callers ask for so long, each again as soon as it was answered.

    A caller waits for `patience` seconds; one that gets no answer connects anew.
    """
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds
    exchanges: list[Exchange] = []

    async def caller(number: int) -> None:
        connection: _Connection | None = None
        turn = number
        while (begun := time.perf_counter()) < end:
            status = UNANSWERED
            try:
                if connection is None or not connection.is_open:
                    joining = loop.create_connection(_Connection, host, port, ssl=tls or None)
                    connection = (await asyncio.wait_for(joining, patience))[1]
                    begun = time.perf_counter()
                status = await connection.ask(requests[turn % len(requests)], patience)
            except OSError:
                await asyncio.sleep(0.05)  # refused: asking in a tight loop tells nothing more
            turn += 1
            now = time.perf_counter()
            exchanges.append(Exchange(now, now - begun, status))
        if connection is not None:
            connection.close()

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return exchanges
