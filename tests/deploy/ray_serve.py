"""Ray Serve on this machine, with processes that can be counted and killed one by one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RayServe:
    """All processes of one `serve run`: it starts the others."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def kill_replica(self) -> int:
        """Kill a replica as the kernel does when memory ends; return its process."""
        (victim, *others) = self.replicas()
        assert others, "somebody must be left to answer"
        os.kill(victim, signal.SIGKILL)
        return victim

    def replicas(self) -> list[int]:
        """The processes of replicas."""
        return [number for number in self._all() if _name(number).startswith("ray::ServeReplica")]

    def cpu_seconds(self) -> float:
        """The time that all processes have used so far."""
        return sum(map(cpu_seconds_of, self._all()))

    def end(self) -> None:
        """End them all."""
        for number in self._all():
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def _all(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(stat.parent.name))
        found, waiting = [self._process.pid], [self._process.pid]
        while waiting:
            more = children.get(waiting.pop(), [])
            found += more
            waiting += more
        return found[::-1]


@contextmanager
def ray_serve(environment: Path, service: Path, log: Path) -> Iterator[RayServe]:
    """Run `serve run deploy/ray/serve.yaml`, as the documentation says, until the block ends."""
    programs = environment / "bin"
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(service / "src"), str(service)]),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Of its own, and short: sockets are below it. Whatever else runs or ran here is not met.
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="ray-"),
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [programs / "serve", "run", "--address=local", "deploy/ray/serve.yaml"],
            cwd=service,
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    running = RayServe(process)
    try:
        yield running
    finally:
        running.end()
        shutil.rmtree(variables["RAY_TMPDIR"], ignore_errors=True)


def cpu_seconds_of(process: int) -> float:
    """The time that a process has used; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
