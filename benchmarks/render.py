"""CPU seconds of a bare render: `copier copy --defaults`, from start to end of the process.

Run it on a machine that does nothing else: .venv/bin/python benchmarks/render.py
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = 7
GOAL_SECONDS = 2.0


def children_seconds() -> float:
    """CPU seconds, of the user and of the system, that ended children of this process have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compiling() -> dict[str, str]:
    """The environment, in which Python keeps compiled modules, as it does everywhere by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_of(*command: str) -> float:
    """CPU seconds of one run of `command`."""
    before = children_seconds()
    subprocess.run(command, check=True, capture_output=True, env=compiling())
    return children_seconds() - before


def main() -> None:
    """Print the median of some renders, beside what Copier itself takes to start."""
    copier = str(Path(sys.executable).parent / "copier")
    cpu_of(copier, "--version")  # compiles, which an installed Copier does once
    with tempfile.TemporaryDirectory() as folder:
        renders = [
            cpu_of(copier, "copy", "--defaults", "--vcs-ref", "HEAD", str(ROOT), f"{folder}/{run}")
            for run in range(RUNS)
        ]
    starts = [cpu_of(copier, "--version") for _ in range(RUNS)]
    print(f"machine             {os.cpu_count()} CPUs, Python {sys.version.split()[0]}")
    print(f"bare render         {statistics.median(renders):.2f} CPU s (goal {GOAL_SECONDS:.0f})")
    print(f"of it Copier's own  {statistics.median(starts):.2f} CPU s (copier --version)")


if __name__ == "__main__":
    main()
