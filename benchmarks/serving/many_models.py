"""What one more version costs a process: memory, and time until it is ready.

    python benchmarks/serving/many_models.py [--repository DIR] [--models 20] [--versions 3]

Serves the versions of a trained repository again and again under other names: one model with one
version, then as many as are asked for, and prints the difference for each version. Without a
repository it makes tiny ones. Linux only; memory is the resident size, CPU time is the server's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from caller import cpu_seconds
from single_row import MARK, Server

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "template/src")]

from tests.platform.serving.many_versions import repository_with  # noqa: E402

TINY = ROOT / "tests/platform/serving/onnx_versions.py"


class Cost(NamedTuple):
    """What a process with some versions needed until it was ready."""

    seconds: float
    cpu: float
    megabytes: float


def cost_of(root: Path) -> Cost:
    """Serve a repository once."""
    server = Server(sys.executable, root)
    try:
        seconds = server.wait_until_ready()
        return Cost(seconds, cpu_seconds(MARK), server.resident_megabytes())
    finally:
        server.stop()


def trained_versions(repository: Path | None, scratch: Path) -> list[Path]:
    """Return the folders of the versions to serve."""
    if repository is None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "template/src")}
        command = [sys.executable, str(TINY), str(scratch), "adds"]
        subprocess.run(command, check=True, env=environment)
        repository = scratch
    return sorted(path.parent for path in repository.glob("registry/*/*/manifest.json"))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--versions", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = trained_versions(given.repository, Path(folder, "tiny"))
        one, many = Path(folder, "one"), Path(folder, "many")
        repository_with(sources, one, 1, 1)
        repository_with(sources, many, given.models, given.versions)
        rounds = [(cost_of(one), cost_of(many)) for _ in range(given.rounds)]
    count = given.models * given.versions
    print("| versions | ready after s | CPU s | resident MB |\n|---|---|---|---|")
    columns = [Cost(*map(statistics.median, zip(*costs, strict=True)))
               for costs in zip(*rounds, strict=True)]  # fmt: skip
    for number, cost in zip((1, count), columns, strict=True):
        print(f"| {number} | {cost.seconds:.2f} | {cost.cpu:.2f} | {cost.megabytes:.0f} |")
    each = [(b - a) / (count - 1) for a, b in zip(*columns, strict=True)]
    print(f"| one more | {each[0]:.4f} | {each[1]:.4f} | {each[2]:.2f} |")


if __name__ == "__main__":
    main()
