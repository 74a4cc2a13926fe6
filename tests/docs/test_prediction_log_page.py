"""Every command of the page about the prediction log, on a service that was trained."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.serving.server_process import ServerProcess
from tests.rendering import ROOT, Template

MODEL = "penguin_mass"
EXAMPLE_ID = "5f1c0a9be2d4-1"


@pytest.fixture(scope="module")
def service(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A service with two versions of a model, whose rows are identified by the bill's length."""
    repository = Repository(template.render(tmp_path_factory.mktemp("page") / "acme-models"))
    path = repository.model_folder(MODEL) / "model.yaml"
    stated = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    stated["ground_truth"] = {"expected": True, "key": ["bill_length_mm"]}
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    for _ in range(2):
        ran = command(repository, "train", MODEL)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return repository


def commands_of(page: str) -> list[str]:
    """Return the commands of a page, each with the lines that belong to it."""
    blocks = re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).splitlines(keepends=True)
    commands: list[str] = []
    for line in lines:
        if line.startswith(" "):
            commands[-1] += line
        else:
            commands.append(line)
    return commands


def run(command_line: str, folder: Path, url: str, prediction_id: str) -> str:
    """Run a command as the page has it, with the address and the id of this service."""
    python = f"{sys.executable} -m model_service"
    typed = command_line.replace("acme-models ", f"{python} ").replace(EXAMPLE_ID, prediction_id)
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed.replace("http://127.0.0.1:8080", url)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "template/src"), "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{typed}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_every_command_of_the_page_does_what_the_page_says(service: Repository) -> None:
    page = (service.root / "docs/prediction-log.md").read_text(encoding="utf-8")
    install, export, tell, by_id, by_key, replay, compare = commands_of(page)
    # What these need is not here: a build, and somebody else's server.
    assert "'.[postgresql]'" in install
    assert "postgresql = [" in (service.root / "pyproject.toml").read_text(encoding="utf-8")
    assert "MODEL_SERVICE_STORES__PREDICTION_LOG" in export

    serve = ["serve", "--port", "0"]
    here = [sys.executable, "-m", "model_service", "--repository", str(service.root)]
    server = ServerProcess([*here, *serve])
    try:
        server.wait_until_loaded()
        contract = yaml.safe_load((service.model_folder(MODEL) / "contract.yaml").read_text())
        row = contract["examples"][0]
        answer = server.client.post(f"/v1/models/{MODEL}/predict", json={"rows": [row]}).json()
        prediction_id = answer["rows"][0]["prediction_id"]

        def did(typed: str) -> str:
            return run(typed, service.root, server.url, prediction_id)

        assert '"ground_truth":[{"result":' in did(tell)
        truth = service.root / "truth.csv"
        truth.write_text(f"prediction_id,value\n{prediction_id},3850\n")
        did(by_id)
        (service.root / "truth.csv").write_text(
            f"bill_length_mm,value\n{row['bill_length_mm']},3900\n"
        )
        assert "1 replace what was told before" in did(by_key)
        replayed = did(replay)
        assert "answered the same today" in replayed
        assert "what really happened: 3900" in replayed
        assert "1 rows answered by both" in did(compare)
    finally:
        server.stop()
