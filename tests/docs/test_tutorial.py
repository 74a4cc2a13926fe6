"""Every command of the tutorial, run as a newcomer would type it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.rendering import IDENTITY, ROOT, TOOLS, Template

if TYPE_CHECKING:
    from pathlib import Path

TUTORIAL = ROOT / "docs" / "tutorial.md"
READY_WITHIN_SECONDS = 60
LONGEST_UNTIL_STUB_SECONDS = 600
"""A consumer must be able to start within ten minutes; on an idle machine it takes seconds."""


def commands_of(document: str) -> list[str]:
    """The commands of a document: what follows `$ ` in a console block, with the lines after it."""
    blocks = re.findall(r"^```console\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    return [
        command.strip()
        for block in blocks
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)
        if command.strip()
    ]


@dataclass
class Terminal:
    """A shell that remembers its folder, and the server that was started in another one."""

    folder: Path
    variables: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)
    server: subprocess.Popen[bytes] | None = None

    def type(self, command: str) -> None:
        """Run a command; the test fails if it does."""
        words = command.split()
        if words[0] == "cd":
            self.folder /= words[1]
        elif "serve" in words:
            self._serve(command)
        else:
            self._run(command)

    def _run(self, command: str) -> None:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self.printed[command] = ran.stdout
        assert ran.returncode == 0, f"$ {command}\n{ran.stdout[-6000:]}"

    def _serve(self, command: str) -> None:
        self.close()
        log = (self.folder.parent / "serve.log").open("wb")
        self.server = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.variables,
            stdout=log,
            stderr=log,
        )
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        ready = f"http://127.0.0.1:{self.variables['PORT']}/readyz"
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                with urllib.request.urlopen(ready, timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        pytest.fail((self.folder.parent / "serve.log").read_text(encoding="utf-8"))

    def close(self) -> None:
        """End the server, which must go in order."""
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            assert self.server.wait(timeout=30) == 0
            self.server = None


def test_every_command_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    template = Template.of_the_working_tree(tmp_path / "template")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    identity = dict(setting.split("=") for setting in IDENTITY if "=" in setting)
    terminal = Terminal(
        tmp_path,
        os.environ
        | {
            "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
            "TEMPLATE": str(template.folder),
            "PORT": str(port),
            "NO_COLOR": "1",
            "GIT_AUTHOR_NAME": identity["user.name"],
            "GIT_AUTHOR_EMAIL": identity["user.email"],
            "GIT_COMMITTER_NAME": identity["user.name"],
            "GIT_COMMITTER_EMAIL": identity["user.email"],
        },
    )
    commands = commands_of(TUTORIAL.read_text(encoding="utf-8"))
    assert len(commands) > 15
    began = time.monotonic()
    until_stub = None
    try:
        for command in commands:
            terminal.type(command)
            if until_stub is None and "curl" in command:
                until_stub = time.monotonic() - began
    finally:
        terminal.close()
    assert until_stub is not None
    print(f"from rendering to the first answer of the stub: {until_stub:.1f} s")
    assert until_stub < LONGEST_UNTIL_STUB_SECONDS
    made_up, clean, dirty = (
        text for command, text in terminal.printed.items() if "curl" in command
    )
    assert '"version":"stub"' in made_up
    assert '"value":"Adelie"' in clean
    assert '"warnings":[]' in clean
    assert "Atlantis" in dirty
    assert '"pointer":"/rows/1/bill_length_mm"' in dirty
