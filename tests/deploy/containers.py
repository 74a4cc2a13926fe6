"""Builds and runs images with buildah and podman, which need no daemon, and leaves nothing behind.

Isolated by a chroot where it builds, without systemd where it runs: both work where
continuous integration often is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.debian import program

BUILD_ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot", "BUILDAH_FORMAT": "docker"}
AS_A_PLAIN_PODMAN = {
    "CONTAINERS_STORAGE_CONF": """\
[storage]
driver = "vfs"
graphroot = "{folder}/store"
runroot = "{folder}/run"
""",
    "CONTAINERS_CONF": """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
tmp_dir = "{folder}/tmp"
[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
""",
}
AS_IN_A_CLUSTER = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges", "--network", "host"),
    # What this machine may not allow, and no orchestrator needs from us.
    *("--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"),
)


@dataclass(frozen=True)
class Containers:
    """A store of images and containers of its own."""

    folder: Path

    @property
    def buildah(self) -> list[str]:
        """The command that builds, up to its first word of its own."""
        return [program("buildah"), *self._store]

    @property
    def podman(self) -> list[str]:
        """The command that runs."""
        runtime = ["--runtime", program("runc"), "--cgroup-manager", "cgroupfs"]
        return [program("podman"), *self._store, *runtime, "--tmpdir", str(self.folder / "tmp")]

    @property
    def _store(self) -> list[str]:
        places = ["--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")]
        return [*places, "--storage-driver", "vfs"]

    def environment(self) -> dict[str, str]:
        """Return variables that let a plain `podman` use this store, as images can be run here."""
        for name, text in AS_A_PLAIN_PODMAN.items():
            (self.folder / name).write_text(text.format(folder=self.folder), encoding="utf-8")
        return {name: str(self.folder / name) for name in AS_A_PLAIN_PODMAN}

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name."""
        self._output([*self.podman, "tag", image, name])

    def build(self, folder: Path, dockerfile: str, name: str) -> None:
        """Build the image `name` from a folder."""
        command = [*self.buildah, "build", "--quiet", "--file", "-", "--tag", name, str(folder)]
        environment = os.environ | BUILD_ENVIRONMENT
        subprocess.run(
            command, input=dockerfile, text=True, check=True, env=environment, capture_output=True
        )

    def run(self, image: str, *arguments: str) -> str:
        """Run a command in a container as a cluster would, and return what it printed."""
        command = [*self.podman, "run", "--rm", *AS_IN_A_CLUSTER, image, *arguments]
        return self._output(command)

    @contextmanager
    def running(
        self, image: str, *options: str, command: Sequence[str] = ()
    ) -> Iterator[Container]:
        """Start a container with what its image runs, or with a command of it, and end it."""
        words = [*self.podman, "run", "--detach", *AS_IN_A_CLUSTER, *options, image, *command]
        identifier = self._output(words).split()[-1]
        try:
            yield Container(self.podman, identifier)
        finally:
            self._output([*self.podman, "rm", "--force", "--time", "1", identifier])

    def inspect(self, image: str, template: str) -> str:
        """Return what an image says about itself."""
        return self._output([*self.podman, "image", "inspect", image, "--format", template]).strip()

    @staticmethod
    def _output(command: list[str]) -> str:
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert ran.returncode == 0, f"{command}: {ran.stdout}"
        return ran.stdout


@dataclass(frozen=True)
class Container:
    """A container that runs."""

    podman: list[str]
    identifier: str

    @property
    def process(self) -> int:
        """The number that its first process has outside."""
        return int(self._inspect("{{.State.Pid}}"))

    @property
    def exit_code(self) -> int:
        """What it ended with, once it has."""
        return int(self._run("wait", self.identifier))

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._run("logs", self.identifier)

    def terminate(self) -> None:
        """Ask it to end, as an orchestrator does."""
        self._run("kill", "--signal", "TERM", self.identifier)

    def execute(self, *words: str) -> str:
        """Run a command in it, whatever comes of that; return what was printed."""
        command = [*self.podman, "exec", self.identifier, *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr

    def _inspect(self, template: str) -> str:
        return self._run("inspect", "--format", template, self.identifier).strip()

    def _run(self, *arguments: str) -> str:
        ran = subprocess.run(
            [*self.podman, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=120,
        )
        return ran.stdout


@contextmanager
def containers() -> Iterator[Containers]:
    """Give a store that is gone afterwards: its images are large."""
    folder = Path(tempfile.mkdtemp(prefix="containers-"))
    try:
        yield Containers(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
