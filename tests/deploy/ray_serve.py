"""Ray Serve on two nodes of this machine, whose processes can be counted and killed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.ports import free_port

Process = subprocess.Popen[bytes]
SECONDS = 60
A_NODE = (
    *("start", "--block", "--num-cpus=1", "--object-store-memory=100000000"),
    *("--min-worker-port=0", "--max-worker-port=0"),
)


class RayCluster:
    """Two nodes, each with room for one replica, and `serve run` as the documentation says."""

    def __init__(self, environment: Path, service: Path, folder: Path, log: Path) -> None:
        self._programs = environment / "bin"
        self._service = service
        self._log = log
        self._variables = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(service / "src"), str(service)]),
            "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Of its own, and short: sockets are below it. Whatever else runs here is not met.
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        ports = (f"--port={free_port()}", f"--ray-client-server-port={free_port()}")
        head = self._start("ray", *A_NODE, "--head", *ports, "--include-dashboard=false")
        self._processes = [head]
        self._wait_for_raylet(head)
        self._second = self.start_node()
        run = ("serve", "run", "--address=auto", "deploy/ray/serve.yaml")
        self._processes.append(self._start(*run))

    def start_node(self) -> Process:
        """Let a second node join."""
        self._second = self._start("ray", *A_NODE, "--address=auto")
        self._processes.append(self._second)
        self._wait_for_raylet(self._second)
        return self._second

    def kill_node(self) -> None:
        """Kill the process of the second node; what runs on it ends with it."""
        os.kill(self._wait_for_raylet(self._second), signal.SIGKILL)
        self._second.wait(SECONDS)

    def replicas(self) -> list[int]:
        """The processes of replicas, of all nodes that live."""
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
        for process in self._processes:
            process.wait()

    def _start(self, program: str, *words: str) -> Process:
        with self._log.open("ab") as stream:
            return subprocess.Popen(
                [self._programs / program, *words],
                cwd=self._service,
                env=self._variables,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def _wait_for_raylet(self, node: Process) -> int:
        deadline = time.monotonic() + SECONDS
        while True:
            for number in _below(node.pid):
                if Path(_name(number).partition("\0")[0]).name == "raylet":
                    return number
            assert node.poll() is None, self._log.read_text()[-4000:]
            assert time.monotonic() < deadline, self._log.read_text()[-4000:]
            time.sleep(0.1)

    def _all(self) -> list[int]:
        return [number for process in self._processes for number in _below(process.pid)]


@contextmanager
def ray_cluster(environment: Path, service: Path, log: Path) -> Iterator[RayCluster]:
    """Run `serve run deploy/ray/serve.yaml` on a cluster of two nodes until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    running = RayCluster(environment, service, folder, log)
    try:
        yield running
    finally:
        running.end()
        shutil.rmtree(folder, ignore_errors=True)


def cpu_seconds_of(process: int) -> float:
    """The time that a process has used; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _below(root: int) -> list[int]:
    """A process and all that it started, the youngest first; nothing once it is gone."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [root], [root]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found[::-1]


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
