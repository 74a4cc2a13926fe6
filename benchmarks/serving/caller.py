"""A caller over keep-alive connections, and what the kernel knows of the process that is called."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Measured(msgspec.Struct, frozen=True):
    """Of one burst of requests: CPU milliseconds of the server and wall seconds of each."""

    cpu_milliseconds: float
    requests_per_second: float
    seconds: list[float]

    @property
    def median_milliseconds(self) -> float:
        """The median of the times that callers waited."""
        return statistics.median(self.seconds) * 1000


def post(port: int, path: str, body: bytes) -> bytes:
    """Return the bytes of a request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def processes_of(mark: str) -> Iterator[int]:
    """Yield every process that has `mark` in its environment.

    Servers start processes of their own, and some let them go; all of them inherit it. Linux only.
    """
    wanted = mark.encode() + b"\0"
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes():
                yield int(entry.name)
        except OSError:  # it ended meanwhile
            continue


def cpu_seconds(mark: str) -> float:
    """Return the user and system time of the processes with `mark`."""
    total = 0
    for number in processes_of(mark):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


async def _call(port: int, request: bytes, count: int, seconds: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {head!r} {await reader.read(500)!r}")
        found = _LENGTH.search(head)
        if found:
            await reader.readexactly(int(found.group(1)))
        else:  # chunked
            await reader.readuntil(b"\r\n0\r\n\r\n")
        seconds.append(time.perf_counter() - started)
    writer.close()


async def _burst(port: int, request: bytes, callers: int, count: int) -> list[float]:
    seconds: list[float] = []
    each = max(1, count // callers)
    await asyncio.gather(*(_call(port, request, each, seconds) for _ in range(callers)))
    return seconds


def measure(mark: str, port: int, request: bytes, *, callers: int, count: int) -> Measured:
    """Send `count` requests from `callers` at once, and measure the marked server."""
    cpu, started = cpu_seconds(mark), time.perf_counter()
    seconds = asyncio.run(_burst(port, request, callers, count))
    wall = time.perf_counter() - started
    spent = (cpu_seconds(mark) - cpu) / len(seconds) * 1000
    return Measured(spent, len(seconds) / wall, seconds)
