"""`make demo` does what it prints, on a folder that is empty or held an earlier demo."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

from tests.rendering import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DEMO = [sys.executable, str(ROOT / "scripts/demo.py"), "--destination"]


def test_the_demo_answers_a_clean_and_a_dirty_row_and_keeps_serving(tmp_path: Path) -> None:
    destination = tmp_path / "demo"
    demo = subprocess.Popen(
        [*DEMO, str(destination), "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    printed = ""
    try:
        for line in demo.stdout:
            printed += line
            if "make check test" in line:
                break
        assert '"value": "Adelie"' in printed, printed
        assert "new category 'Atlantis'" in printed
        assert "sex is missing" in printed
        assert '"faults"' not in printed, "the demo's rows are refused"
        served = re.search(r"open (http://127\.0\.0\.1:\d+)/docs", printed)
        assert served, printed
        address = f"{served[1]}/docs"
        with urllib.request.urlopen(address, timeout=10) as page:  # noqa: S310 - loopback
            assert b"penguin_species" in page.read()
    finally:
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, printed + rest
    assert "Stopped." in rest


def test_the_demo_leaves_a_folder_alone_that_is_no_demo(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work\n", encoding="utf-8")
    ran = subprocess.run([*DEMO, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "no demo" in ran.stderr
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work\n"
