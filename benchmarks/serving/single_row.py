"""How much CPU the server spends on a request of one row.

    python benchmarks/serving/single_row.py --repository DIR [--python DIR/.venv/bin/python]

Starts `serve` of a repository that has trained versions, sends single-row requests over keep-alive
connections, and reads the CPU time of the server's process from /proc (Linux only). The caller
is another process, so that its own work is not counted. Trust the CPU figures: wall times depend
on what else the machine does. Validation, metrics, request ids and the log line are all on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SERVE = """
import os, sys
from pathlib import Path
import msgspec
from model_service.repository import Repository
from model_service.serving.server import serve
from model_service.settings import read_settings
repository = Repository(Path(sys.argv[1]).resolve())
settings = read_settings(repository, os.environ)
server = msgspec.structs.replace(settings.server, port=0, workers=1)
serve(msgspec.structs.replace(settings, server=server), repository)
"""
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Server:
    """The service under test and what the kernel knows of it."""

    def __init__(self, python: str, repository: Path) -> None:
        source = repository / "src"
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [python, "-c", SERVE, str(repository)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        else:
            raise SystemExit("serve did not start; run it by hand to see why")

    def get(self, path: str) -> bytes:
        """Return the body of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def wait_until_ready(self) -> float:
        """Return the seconds from the start of the process to readiness."""
        while True:
            try:
                self.get("/readyz")
                return time.perf_counter() - self.started
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("serve ended before it was ready") from None
                time.sleep(0.01)

    def cpu_seconds(self) -> float:
        """Return the user and system time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def resident_megabytes(self) -> float:
        """Return the resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(20)


def first_example(server: Server, repository: Path) -> tuple[str, bytes]:
    """Return the first ready model and a body made of its contract's first example."""
    import yaml

    models = json.loads(server.get("/v1/models"))["models"]
    for model in models:
        contract = repository / "models" / model["model"] / "contract.yaml"
        if model["state"] == "ready":
            examples = yaml.safe_load(contract.read_text())["examples"]
            return model["model"], json.dumps({"rows": examples[:1]}, default=str).encode()
    raise SystemExit("no model is ready")


async def caller(port: int, request: bytes, count: int, seconds: list[float]) -> None:
    """Send `count` requests one after the other over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {head!r}")
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None
        await reader.readexactly(int(found.group(1)))
        seconds.append(time.perf_counter() - started)
    writer.close()


async def call(port: int, request: bytes, callers: int, count: int) -> list[float]:
    """Send `count` requests from `callers` at once; return how long each took."""
    seconds: list[float] = []
    each = count // callers
    await asyncio.gather(*(caller(port, request, each, seconds) for _ in range(callers)))
    return seconds


def measure(server: Server, request: bytes, callers: int, count: int) -> tuple[float, float, float]:
    """Return CPU milliseconds a request, requests a second, and the median in milliseconds."""
    cpu, started = server.cpu_seconds(), time.perf_counter()
    seconds = asyncio.run(call(server.port, request, callers, count))
    wall = time.perf_counter() - started
    spent = (server.cpu_seconds() - cpu) / len(seconds) * 1000
    return spent, len(seconds) / wall, statistics.median(seconds) * 1000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    repository = given.repository.resolve()
    server = Server(given.python, repository)
    try:
        ready = server.wait_until_ready()
        model, body = first_example(server, repository)
        head = (
            f"POST /v1/models/{model}/predict HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        measure(server, request, 32, given.requests // 4)
        print(f"model {model}: ready after {ready:.2f} s, {server.resident_megabytes():.0f} MB\n")
        print("| callers | server CPU ms a request | requests/s | median ms |")
        print("|---|---|---|---|")
        for callers in (1, 32):
            count = given.requests if callers > 1 else given.requests // 4
            rounds = [measure(server, request, callers, count) for _ in range(given.rounds)]
            cpu, rate, middle = (
                statistics.median(figures) for figures in zip(*rounds, strict=True)
            )
            print(f"| {callers} | {cpu:.3f} | {rate:,.0f} | {middle:.2f} |")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
