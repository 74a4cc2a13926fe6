"""What callers see when twice as much is asked as the service can answer.

    python benchmarks/serving/overload.py --work FOLDER [--queue-seconds 0.02]

FOLDER is that of `compare_peers.py`, whose model that stays in scikit-learn is asked, each request
by itself: answered in batches it would outrun the sender, which has to share the machine. First the
capacity is measured with closed callers; then requests are sent at fixed moments, at half and at
twice that rate, whatever the answers do, and each is timed from the moment it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from caller import measure, post
from compare_peers import VARIANTS, Server

CALLERS = 32


class OpenLoop:
    """Sends requests at a rate, over as many connections as it needs."""

    def __init__(self, port: int, request: bytes) -> None:
        self.port = port
        self.request = request
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()

    async def _one(self, due: float) -> None:
        if self.idle:
            reader, writer = self.idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        status = int(head[9:12])
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(time.perf_counter() - due)
        self.idle.append((reader, writer))

    async def run(self, rate: float, seconds: float) -> None:
        """Send for so many seconds, and wait for every answer."""
        tasks: list[asyncio.Task[None]] = []
        started = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = started + number / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self._one(due)))
        await asyncio.gather(*tasks)
        for _, writer in self.idle:
            writer.close()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--queue-seconds", type=float, default=0.02)
    parser.add_argument("--seconds", type=float, default=15)
    given = parser.parse_args()
    work = given.work.resolve()
    alone = work / "service" / "models" / "kept" / "model.yaml"
    alone.parent.mkdir(exist_ok=True)
    alone.write_text("batching: false\n")
    rows = json.loads((work / "model" / "rows.json").read_text())
    variant = next(each for each in VARIANTS if each.name == "ours, kept in scikit-learn")
    body = json.dumps({"rows": rows[:1]}).encode()

    def started() -> tuple[Server, bytes]:
        server = Server(variant, work)
        server.wait(rows)
        return server, post(server.port, variant.path, body)

    server, request = started()
    try:
        measure(server.mark, server.port, request, callers=CALLERS, count=2000)
        full = measure(server.mark, server.port, request, callers=CALLERS, count=8000)
    finally:
        server.stop()
    capacity = full.requests_per_second
    print(f"capacity {capacity:,.0f} requests/s with {CALLERS} callers\n")
    os.environ["MODEL_SERVICE_LIMITS__QUEUE_SECONDS"] = str(given.queue_seconds)
    server, request = started()
    try:
        print("| asked for | answered | 429 | other | p50 ms | p99 ms |")
        print("|---|---|---|---|---|---|")
        asyncio.run(OpenLoop(server.port, request).run(capacity / 4, 2))  # only to warm up
        for times in (0.5, 2.0):
            asked = OpenLoop(server.port, request)
            asyncio.run(asked.run(capacity * times, given.seconds))
            shares = statistics.quantiles(asked.seconds, n=100)
            answered, shed = asked.statuses[200], asked.statuses[429]
            other = asked.statuses.total() - answered - shed
            waits = f"{shares[49] * 1000:.1f} | {shares[98] * 1000:.1f}"
            print(f"| {times:g} times | {answered} | {shed} | {other} | {waits} |")
    finally:
        server.stop()
        alone.unlink()


if __name__ == "__main__":
    main()
