"""How much CPU the server spends on a request of one row.

    python benchmarks/serving/single_row.py --repository DIR [--python DIR/.venv/bin/python]

Starts `serve` of a repository that has trained versions, sends single-row requests over keep-alive
connections, and reads the CPU time of the server's process (Linux only). The caller is another
process, so that its own work is not counted. Trust the CPU figures: wall times depend on what else
the machine does. Everything that service.yaml switches on is on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from caller import measure, post

MARK = "single-row-benchmark"


class Server:
    """The service under test and what the kernel knows of it."""

    def __init__(self, python: str, repository: Path) -> None:
        self.started = time.perf_counter()
        serve = ["-m", "model_service", "--repository", str(repository), "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [python, *serve],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(repository / "src"),
                "BENCHMARK_SERVER": MARK,
            },
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
        request = post(server.port, f"/v1/models/{model}/predict", body)
        measure(MARK, server.port, request, callers=32, count=given.requests // 4)
        print(f"model {model}: ready after {ready:.2f} s, {server.resident_megabytes():.0f} MB\n")
        print("| callers | server CPU ms a request | requests/s | median ms |")
        print("|---|---|---|---|")
        for callers in (1, 32):
            count = given.requests if callers > 1 else given.requests // 4
            rounds = [
                measure(MARK, server.port, request, callers=callers, count=count)
                for _ in range(given.rounds)
            ]
            cpu = statistics.median(one.cpu_milliseconds for one in rounds)
            rate = statistics.median(one.requests_per_second for one in rounds)
            wait = statistics.median(one.median_milliseconds for one in rounds)
            print(f"| {callers} | {cpu:.3f} | {rate:,.0f} | {wait:.2f} |")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
