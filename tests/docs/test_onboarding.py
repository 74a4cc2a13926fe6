"""Every command of the pages for newcomers and backend, in the order in which they are read."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from model_service.prediction_log.store import open_store
from model_service.registry.traffic import read_traffic
from model_service.repository import Repository
from model_service.serving.stub_callers import callers_file, read_callers
from tests.docs.test_tutorial import TUTORIAL
from tests.platform.handoff.stub_process import copy_of
from tests.platform.serving.server_process import ServerProcess
from tests.rendering import ROOT, commit_all, git

if TYPE_CHECKING:
    from pathlib import Path

PAGES = ["day-one", "change-a-contract", "debug-a-request", "for-backend"]
EXAMPLE_ID = "5f1c0a9be2d4-1"
ELSEWHERE = ("make", "uvx", "npx")
"""Typed as well in the tutorial's test and in that of the typed clients."""


class Reader:
    """Somebody who types what a page says, in one repository."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.folder = folder
        self.told: dict[str, str] = {}
        self.server: ServerProcess | None = None
        self.prediction_id = EXAMPLE_ID
        identity = {"NAME": "A Tester", "EMAIL": "tester@example.invalid"}
        self.environment = {
            **os.environ,
            **{f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in identity.items()},
            "PATH": f"{shim}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "template/src"),
            "no_proxy": "127.0.0.1",
        }

    def serve(self, *options: str) -> ServerProcess:
        self.stop()
        command = [sys.executable, "-m", "model_service", "--repository", str(self.folder)]
        self.server = ServerProcess([*command, "serve", *options, "--port", "0"])
        self.server.wait_until_loaded()
        return self.server

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None

    def read(self, page: str) -> None:
        """Type every command of a page; a server that it starts goes on until the next one."""
        text = (self.folder / f"docs/{page}.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        commands = "".join(blocks).splitlines()
        assert commands, page
        for command in commands:
            if command.startswith("acme-models serve"):
                self.serve(*(["--stub"] if "--stub" in command else []))
            elif not command.startswith(ELSEWHERE):
                self.type(command)

    def type(self, command: str) -> None:
        typed = command.replace(EXAMPLE_ID, self.prediction_id)
        if typed != command:
            self._wait_for_the_log()
        if self.server is not None:
            typed = typed.replace("http://127.0.0.1:8080", self.server.url)
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", typed],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self.told[command] = ran.stdout
        allowed = (0, 1) if "contract diff" in command else (0,)
        assert ran.returncode in allowed, f"$ {command}\n{ran.stdout[-4000:]}"

    def _wait_for_the_log(self) -> None:
        """Return once the answer that is asked for is written, which takes half a second."""
        log = open_store("prediction_log", self.folder)
        deadline = time.monotonic() + 60
        while log.find(self.prediction_id) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        log.close()


@pytest.fixture
def reader(default_service: Path, tmp_path: Path) -> Reader:
    folder = copy_of(default_service, tmp_path / "acme-models")
    shim = tmp_path / "bin"
    shim.mkdir()
    # What `make setup` would install, from the working tree.
    called = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m model_service "$@"\n'
    (shim / "acme-models").write_text(called, encoding="utf-8")
    (shim / "acme-models").chmod(0o755)
    with (folder / "data/penguins.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["species"] != "Chinstrap"]
    names = ["bill_length_mm", "bill_depth_mm", "island", "species"]
    with (folder / "customers.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*names[:-1], "left"])
        writer.writerows([row[name] for name in names] for row in rows)
    commit_all(folder)
    return Reader(folder, shim)


def test_the_commands_that_are_typed_elsewhere_are(default_service: Path) -> None:
    tutorial = TUTORIAL.read_text(encoding="utf-8")
    assert "make setup" in tutorial
    assert "make train" in tutorial
    pages = "".join(
        (default_service / f"docs/{page}.md").read_text(encoding="utf-8") for page in PAGES
    )
    clients = (ROOT / "tests/platform/handoff/test_clients.py").read_text(encoding="utf-8")
    for tool in re.findall(r"^(?:uvx|npx) ([\w-]+)", pages, re.MULTILINE):
        assert tool in clients


def test_a_newcomer_gets_from_a_clone_to_a_promoted_version_and_explains_an_answer(
    reader: Reader,
) -> None:
    repository = Repository(reader.folder)
    try:
        reader.read("day-one")
        reader.stop()
        assert "churn" in reader.told["acme-models contract check churn"]
        assert read_traffic(repository.traffic).models["churn"].champion == "2"
        assert (reader.folder / "handoff/contract/examples/churn.json").is_file()
        assert (reader.folder / "handoff/pages/backend.html").is_file()
        assert git(reader.folder, "branch", "--show-current").strip() == "churn"

        # On main is what was released; now somebody changes the contract.
        git(reader.folder, "branch", "--force", "main")
        path = reader.folder / "models/churn/contract.yaml"
        text = path.read_text(encoding="utf-8")
        wider = re.sub(r"(bill_depth_mm:.*?minimum: )\S+", r"\g<1>1", text, flags=re.DOTALL)
        assert wider != text
        path.write_text(wider, encoding="utf-8")
        reader.read("change-a-contract")
        assert "nothing breaks callers" in reader.told["acme-models contract diff main"]
        assert read_traffic(repository.traffic).models["churn"].champion == "3"

        server = reader.serve()
        examples = (reader.folder / "handoff/contract/examples/churn.json").read_text()
        row = re.search(r'"rows": \[\s*(\{.*?\})', examples, re.DOTALL)
        assert row
        (reader.folder / "rows.json").write_text(f"[{row[1]}]", encoding="utf-8")
        (reader.folder / "request.json").write_text(f'{{"rows": [{row[1]}]}}', encoding="utf-8")
        answer = server.client.post(
            "/v1/models/churn/predict",
            content=(reader.folder / "request.json").read_bytes(),
            headers={"content-type": "application/json"},
        )
        reader.prediction_id = answer.json()["rows"][0]["prediction_id"]
        reader.read("debug-a-request")
        replayed = reader.told[f"acme-models replay {EXAMPLE_ID}"]
        assert "answered the same today" in replayed

        reader.read("for-backend")
        reader.stop()
        (asked,) = (told for typed, told in reader.told.items() if "request.json" in typed)
        assert "x-stub: true" in asked.lower()
        assert read_callers(callers_file(repository))["shop"].models == {"churn": 1}
    finally:
        reader.stop()


def test_links_of_the_pages_lead_somewhere(default_service: Path) -> None:
    tried = 0
    for page in [*PAGES, "glossary", "README"]:
        text = (default_service / f"docs/{page}.md").read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (default_service / "docs" / link).is_file(), (page, link)
            tried += 1
    assert tried > 15
