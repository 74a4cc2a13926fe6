"""Typed clients can be generated from the contract bundle, and they are answered by the stub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.handoff.stub_process import copy_of, serving_stub
from tests.rendering import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.platform.serving.server_process import ServerProcess

PYTHON_GENERATOR = "openapi-python-client==0.29.1"
TYPESCRIPT = ["openapi-typescript@7.13.0", "typescript@5.9.3"]
PYTHON_CALLER = """
import sys
from acme_models_client import Client
from acme_models_client.api.penguin_mass import penguin_mass_predict
from acme_models_client.api.penguin_species import penguin_species_predict
from acme_models_client.models import (
    PenguinMassRequest, PenguinMassRow, PenguinSpeciesAnsweredRow, PenguinSpeciesRequest,
    PenguinSpeciesRow, Problem, RefusedRow,
)

client = Client(base_url=sys.argv[1])
row = PenguinSpeciesRow(island="Dream", bill_length_mm=45.0, bill_depth_mm=17.0, body_mass_g=4000)
bad = PenguinSpeciesRow(island="Dream", body_mass_g=3)
answer = penguin_species_predict.sync(
    client=client, body=PenguinSpeciesRequest(rows=[row, bad], entity="bird 7")
)
answered, refused = answer.rows
assert isinstance(answered, PenguinSpeciesAnsweredRow), answered
assert answered.value.value in answered.probabilities.to_dict()
# What was not sent is missing: a client must not fill it in by itself.
missing = {w.feature for w in answered.warnings if w.problem.value == "missing"}
assert missing == {"flipper_length_mm", "sex"}, missing
assert isinstance(refused, RefusedRow)
assert refused.error.faults[0].pointer == "/rows/1/body_mass_g"
problem = penguin_species_predict.sync(client=client, body=PenguinSpeciesRequest(rows=[bad]))
assert isinstance(problem, Problem)
assert problem.status == 422
bird = PenguinMassRow(island="Dream", flipper_length_mm=190)
mass = penguin_mass_predict.sync(client=client, body=PenguinMassRequest(rows=[bird]))
assert 2000 <= mass.rows[0].value <= 8000
print("answered", answered.value.value)
"""
TYPESCRIPT_CALLER = """
import type { components, paths } from "./api";
type Request = components["schemas"]["penguin_species.Request"];
type Answers =
  paths["/v1/models/penguin_species/predict"]["post"]["responses"][200]["content"];
type Answer = Answers["application/json"];
// @ts-expect-error: the compiler must refuse a weight that is no number.
const wrong: Request = { rows: [{ island: "Dream", body_mass_g: "4 kg" }] };
// @ts-expect-error: and a row without what the contract requires.
const incomplete: Request = { rows: [{ body_mass_g: 4000 }] };
declare const process: { argv: string[] };
async function main(): Promise<void> {
  const body: Request = { rows: [{ island: "Dream", body_mass_g: 4000 }] };
  const response = await fetch(process.argv[2] + "/v1/models/penguin_species/predict", {
    method: "POST",
    headers: { "content-type": "application/json", "x-service-name": "shop" },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as Answer;
  const row = answer.rows[0];
  if ("error" in row) throw new Error(row.error.title);
  const value: "Adelie" | "Chinstrap" | "Gentoo" = row.value;
  console.log("answered", value, row.probabilities[value]);
}
void main();
"""


@pytest.fixture(scope="module")
def service(default_service: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of(default_service, tmp_path_factory.mktemp("clients") / "acme-models")
    exported = command(Repository(folder), "contract", "export")
    assert exported.returncode == 0, exported.stderr
    return folder


@pytest.fixture(scope="module")
def stub(service: Path) -> Iterator[ServerProcess]:
    with serving_stub(service) as server:
        yield server


def run(*words: str, folder: Path) -> str:
    """Run a command of another tool, with uv beside this Python and npm of the system."""
    ran = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def test_a_typed_python_client_is_answered(
    service: Path, stub: ServerProcess, tmp_path: Path
) -> None:
    document = str(service / "handoff/contract/openapi.json")
    made = run(
        *["uvx", "--python", sys.executable, "--from", PYTHON_GENERATOR, "openapi-python-client"],
        *["generate", "--path", document, "--meta", "none", "--fail-on-warning"],
        *["--output-path", str(tmp_path / "acme_models_client")],
        folder=tmp_path,
    )
    assert "Warning" not in made
    (tmp_path / "caller.py").write_text(PYTHON_CALLER, encoding="utf-8")
    told = run(sys.executable, "caller.py", stub.url, folder=tmp_path)
    assert told.startswith("answered ")


def test_typescript_types_hold_for_what_is_answered(
    service: Path, stub: ServerProcess, tmp_path: Path
) -> None:
    if shutil.which("npm") is None:
        problem = "npm is not installed (Debian packages nodejs and npm)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(problem)
    document = str(service / "handoff/contract/openapi.json")
    run("npm", "install", "--no-fund", "--no-audit", "--silent", *TYPESCRIPT, folder=tmp_path)
    tools = tmp_path / "node_modules/.bin"
    run(str(tools / "openapi-typescript"), document, "--output", "api.d.ts", folder=tmp_path)
    (tmp_path / "caller.ts").write_text(TYPESCRIPT_CALLER, encoding="utf-8")
    options = ["--strict", "--target", "es2022", "--module", "nodenext"]
    run(str(tools / "tsc"), *options, "caller.ts", folder=tmp_path)
    assert "answered " in run("node", "caller.js", stub.url, folder=tmp_path)
