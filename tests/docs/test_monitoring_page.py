"""Every command of the page about watching, run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

from tests.docs.test_tutorial import Terminal, commands_of
from tests.monitoring.alarm_chain import free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rendering import Template


def test_every_command_of_the_page_does_what_it_says(template: Template, tmp_path: Path) -> None:
    service = template.render(tmp_path / "acme-models")
    command = service / ".venv" / "bin" / "acme-models"
    command.parent.mkdir(parents=True)
    python = shlex.quote(sys.executable)
    command.write_text(f'#!/bin/sh\nexec {python} -m model_service "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (command.parent / "python").symlink_to(sys.executable)
    [port] = free_ports(1)
    variables = {"PYTHONPATH": str(service / "src"), "PORT": str(port), "NO_COLOR": "1"}
    terminal = Terminal(service, os.environ | variables)
    page = (service / "docs" / "monitoring.md").read_text(encoding="utf-8")
    commands = commands_of(re.sub(r"^   ", "", page, flags=re.MULTILINE))
    assert len(commands) >= 7
    terminal.type(".venv/bin/acme-models train penguin_species")
    try:
        for each in commands:
            terminal.type(each)
    finally:
        terminal.close()
    [seen] = (text for each, text in terminal.printed.items() if "--once" in each)
    assert re.search(r"penguin_species 1\s+island distribution since", seen), seen
    report = (service / "report.html").read_text(encoding="utf-8")
    assert "<b>island</b> is distributed otherwise than in training" in report
