"""Whether a service keeps anything of what it is asked: 100,000 requests, right and wrong.

    python benchmarks/serving/memory_growth.py --repository DIR [--requests 100000]

Starts `serve` of a repository with trained versions on the loopback interface and sends clean and
dirty rows, tensors, broken JSON, made-up names and bytes that are no HTTP. Prints the resident
memory on the way; ends with 1 if it grew by more than `--megabytes` after the first fifth, or if
anything was answered by a 5xx. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

from single_row import Server, first_example

CALLERS = 16
STEPS = 10


class Requests:
    """Makes requests: the same ones in each run."""

    def __init__(self, model: str, body: bytes) -> None:
        self._chance = random.Random(20260101)  # noqa: S311 - no secret
        self._model = model
        self._row = json.loads(body)["rows"][0]

    def next(self) -> bytes:
        """Return the bytes of a request, of which a third are clean."""
        chance, row = self._chance, dict(self._row)
        path = f"/v1/models/{self._model}/predict"
        kind = chance.randrange(6)
        if kind == 2:
            row[chance.choice(list(row))] = chance.choice([None, "new", -1e9, True, [], {}])
        if kind == 3:
            row[f"field_{chance.random()}"] = 1
        body = json.dumps({"rows": [row], "entity": f"customer {chance.random()}"}).encode()
        if kind == 4:
            path = f"/v1/models/model_{chance.randrange(10**9)}/predict"
        if kind == 5:
            place = chance.randrange(len(body))
            body = body[:place] + chance.randbytes(3) + body[place + 1 :]
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: id-{chance.random()}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def caller(port: int, requests: Requests, count: int, seen: Counter[int]) -> None:
    """Send requests one after the other; every hundredth connection sends garbage instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        if number % 100 == 99:
            writer.write(b"\x00garbage\r\n\r\n")
            await reader.read()
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            seen[400] += 1
            continue
        writer.write(requests.next())
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None
        await reader.readexactly(int(found.group(1)))
        seen[int(head[9:12])] += 1
    writer.close()


async def ask(port: int, requests: Requests, count: int, seen: Counter[int]) -> None:
    """Send `count` requests from several callers."""
    each = count // CALLERS
    await asyncio.gather(*(caller(port, requests, each, seen) for _ in range(CALLERS)))


def main() -> int:
    """Measure, print, and return whether memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--megabytes", type=float, default=10.0)
    given = parser.parse_args()
    server = Server(given.python, given.repository.resolve())
    seen: Counter[int] = Counter()
    sizes = []
    try:
        server.wait_until_ready()
        requests = Requests(*first_example(server, given.repository.resolve()))
        for step in range(1, STEPS + 1):
            asyncio.run(ask(server.port, requests, given.requests // STEPS, seen))
            sizes.append(server.resident_megabytes())
            print(f"{step * given.requests // STEPS:>9,} requests: {sizes[-1]:.1f} MB", flush=True)
    finally:
        server.stop()
    print("answers by status:", dict(sorted(seen.items())))
    grown = max(sizes[STEPS // 5 :]) - sizes[STEPS // 5 - 1]
    print(f"grown by {grown:.1f} MB after the first fifth")
    return int(grown > given.megabytes or any(status >= 500 for status in seen))


if __name__ == "__main__":
    sys.exit(main())
