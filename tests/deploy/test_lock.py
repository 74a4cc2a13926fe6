"""What the image installs is locked, listed, and follows the team's dependencies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.vulnerability_database import A_HOLE, database_of_vulnerabilities
from tests.rendering import TOOLS

LOCKS = (
    "deploy/requirements.txt",
    "deploy/requirements-monitor.txt",
    "deploy/requirements-train.txt",
)


@pytest.fixture
def workshop(service: Path, tmp_path: Path) -> Path:
    """A service of one's own whose environment is that of these tests."""
    folder = Path(shutil.copytree(service, tmp_path / "acme-models"))
    (folder / ".venv").symlink_to(TOOLS.parent)
    return folder


def make(folder: Path, target: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--old-file", ".venv/.installed", target]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def text_of(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def test_a_dependency_of_the_team_is_locked_below_the_seam(workshop: Path) -> None:
    before = {name: text_of(workshop, name) for name in LOCKS}
    assert make(workshop, "lock").returncode == 0
    assert {name: text_of(workshop, name) for name in LOCKS} == before
    project = text_of(workshop, "pyproject.toml")
    seam = re.search(
        r"^ +# --- your team's dependencies go below this line.*\n", project, re.MULTILINE
    )
    assert seam
    added = project.replace(seam[0], f'{seam[0]}    "humanize>=4,<5",\n')
    (workshop / "pyproject.toml").write_text(added, encoding="utf-8")
    check: list[str | Path] = [TOOLS / "python", "deploy/lock.py", "--check"]
    refused = subprocess.run(check, cwd=workshop, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    for name in LOCKS:
        assert f"{name} does not lock 'humanize>=4,<5' of pyproject.toml. Run `make lock`." in (
            refused.stderr
        )
    assert make(workshop, "lock").returncode == 0
    for name in LOCKS:
        text = text_of(workshop, name)
        assert text.startswith(before[name])
        team = text.removeprefix(before[name])
        assert re.match(r"humanize==4\.[\d.]+ \\\n    --hash=sha256:[0-9a-f]{64}", team)
        assert "://" not in text
    assert subprocess.run(check, cwd=workshop, check=False).returncode == 0


def test_the_list_of_what_is_installed_is_complete_and_always_the_same(workshop: Path) -> None:
    listed = []
    for _ in range(2):
        made = make(workshop, "sbom")
        assert made.returncode == 0, made.stdout
        listed.append((workshop / "build/sbom.json").read_bytes())
    assert listed[0] == listed[1]
    document = json.loads(listed[0])
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "acme-models"
    found = {f"{part['name']}=={part['version']}" for part in document["components"]}
    pins = re.findall(r"^([a-z0-9-]+==[^\s;]+)", text_of(workshop, LOCKS[0]), re.MULTILINE)
    assert len(pins) > 20
    assert found == set(pins)
    for part in document["components"]:
        assert part["externalReferences"][0]["hashes"], part["name"]


def test_a_scan_is_green_only_if_everything_was_looked_up(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = workshop / LOCKS[0]
    digest = "0" * 64
    lock.write_text(f"idna==3.20 --hash=sha256:{digest}\n", encoding="utf-8")
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    with database_of_vulnerabilities({"holey": [A_HOLE]}) as address:
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", address)
        clean = make(workshop, "scan")
        assert clean.returncode == 0, clean.stdout
        assert "No known vulnerabilities found\n" in clean.stdout
        with lock.open("a", encoding="utf-8") as stream:
            stream.write(f"inner @ https://127.0.0.1/inner-1.whl --hash=sha256:{digest}\n")
        partly = make(workshop, "scan")
        assert partly.returncode != 0
        assert "skipped: of the packages with a skip reason nothing is known" in partly.stdout
        lock.write_text(f"holey==1 --hash=sha256:{digest}\n", encoding="utf-8")
        found = make(workshop, "scan")
        assert found.returncode != 0
        assert "GHSA-0" in found.stdout
        assert "skipped" not in found.stdout
    gone = make(workshop, "scan")
    assert gone.returncode != 0
    assert "skipped: known vulnerabilities could not be asked for: " in gone.stdout
