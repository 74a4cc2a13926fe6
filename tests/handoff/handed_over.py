"""A service that is ready to be handed over: rendered, trained, filled in, signed. Made once."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import yaml

from model_service.files import sha256_of
from model_service.handoff.bundle import bundle_folder, contracts_in, make_bundle
from model_service.handoff.generated_files import write_files
from model_service.handoff.items import checklist
from model_service.handoff.load_evidence import LoadEvidence, ModelLoad, write_load_evidence
from model_service.handoff.plan import make_plan, plan_file, write_plan
from model_service.handoff.signature import sign
from model_service.registry.manifest import MANIFEST, digests_of, read_manifest, write_manifest
from model_service.repository import Repository
from model_service.serving.stub_callers import Caller, callers_file
from model_service.settings import read_settings
from tests.rendering import ROOT, Template, commit_all, git

if TYPE_CHECKING:
    from pathlib import Path

TODAY = dt.datetime.now(dt.UTC).date()
LAUNCH = TODAY + dt.timedelta(weeks=12)
OWNERS = {"owner_1": "@ann", "owner_2": "@bob"}
CONTACTS = """\
contacts:
  on_call: "#models-on-call"
  backend: "@acme/backend"
  devops: "@acme/devops"
  product: pat@example.com
"""
CONSUMERS = """\
- consumer: web-shop
  model: penguin_species
  fields: [value, probabilities]
  rows_per_request: 100
  timeout_milliseconds: 500
  fallback: shows the form without a suggestion
"""
DRILLS = f"""\
- fault: full-disk
  began: {TODAY}T09:00:00+00:00
  minutes: 12.0
  solved_by: Bob
  email: bob@example.invalid
  section: RecordsDropped
"""


def command(root: Path, *arguments: str, platform: Path | None = None) -> tuple[int, str, str]:
    """Run a command of the service's with the platform of the template, or with an edited one."""
    ran = subprocess.run(
        [sys.executable, "-m", "model_service", "--repository", str(root), *arguments],
        env={**os.environ, "PYTHONPATH": str(platform or ROOT / "template/src")},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


def hand_over(template: Template, folder: Path) -> Path:
    """Make the service in `folder`."""
    root = template.render(folder, launch_date=str(LAUNCH), **OWNERS)
    code, _, error = command(root, "train", "--all")
    assert code == 0, error
    fill_in(root)
    commit_all(root)
    git(root, "config", "user.email", "somebody.else@example.invalid")
    measure(root)
    plan_and_sign(root)
    git(root, "add", "--all")
    return root


def fill_in(root: Path) -> None:
    """Write what a team writes."""
    edit(root / "service.yaml", "contacts:\n", CONTACTS, whole_block=True)
    for path in root.glob("models/*/model.yaml"):
        edit(path, 'owner: ""', 'owner: "@ann"')
    owners = "@ann @bob"
    (root / "CODEOWNERS").write_text(
        f"* {owners}\n/models/*/contract.yaml {owners} @acme/backend\n"
        f"/handoff/contract/ {owners} @acme/backend\n/deploy/ {owners} @acme/devops\n",
        encoding="utf-8",
    )
    kick_off = root / "handoff/kick-off.md"
    form = kick_off.read_text(encoding="utf-8").replace("…", "all").replace(":\n", ": agreed\n")
    kick_off.write_text(form, encoding="utf-8")
    (root / "handoff/consumers.yaml").write_text(CONSUMERS, encoding="utf-8")
    (root / "handoff/drills.yaml").write_text(DRILLS, encoding="utf-8")
    caller = Caller("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 9, {"penguin_species": 9})
    caller.statuses = {"200": 8, "422": 1}
    callers_file(Repository(root)).parent.mkdir(parents=True, exist_ok=True)
    callers_file(Repository(root)).write_bytes(msgspec.json.encode({"web-shop": caller}))
    export(root)


def export(root: Path) -> None:
    """Write the contract bundle."""
    repository = Repository(root)
    bundle = make_bundle(read_settings(repository, {}), contracts_in(repository))
    write_files(bundle_folder(repository), bundle)


def plan_and_sign(root: Path) -> None:
    """Plan with somebody and an address for every ticket, and sign."""
    repository = Repository(root)
    made = make_plan(read_settings(repository, {}), "new-service", "acme", TODAY)
    tickets = tuple(
        msgspec.structs.replace(ticket, link=f"https://tickets.example/{ticket.id}")
        for ticket in made.tickets
    )
    write_plan(
        plan_file(repository, "new-service", ""), msgspec.structs.replace(made, tickets=tickets)
    )
    sign_everything(root)


def sign_everything(root: Path) -> None:
    """Let each team sign what there is to sign, as it is now."""
    for item in checklist():
        for team in item.signers:
            sign(Repository(root), item, team, f"Somebody of {team}", "seen", TODAY)


def measure(root: Path) -> None:
    """Write what a load test and a bill of materials would say of this service."""
    repository = Repository(root)
    settings = read_settings(repository, {})
    loads = tuple(
        ModelLoad(
            model=model,
            version="1",
            manifest_sha256=sha256_of(root / "registry" / model / "1" / MANIFEST),
            steps=(),
            requests_per_second=900.0,
            per_core=900.0,
            memory_bytes=200 * 2**20,
            peak_requests_per_second=10.0,
            broke_at=64,
        )
        for model in repository.model_names()
    )
    evidence = LoadEvidence(
        at=dt.datetime.now(dt.UTC),
        target="this machine",
        rows_per_request=1,
        slo=settings.slo,
        headroom=1.0,
        models=loads,
        replicas=1,
    )
    write_load_evidence(repository, evidence)
    locked = (root / "deploy/requirements.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", locked, re.MULTILINE)
    components = [{"name": name, "version": version} for name, version in pins]
    (root / "build").mkdir(exist_ok=True)
    (root / "build/sbom.json").write_bytes(msgspec.json.encode({"components": components}))


def copy_of(root: Path, folder: Path) -> Path:
    """Copy the service to be broken."""
    return shutil.copytree(root, folder, symlinks=True)


def edit(path: Path, before: str, after: str, *, whole_block: bool = False) -> None:
    """Replace a text of a file that must be there; with `whole_block` also the indented lines
    below it."""
    text = path.read_text(encoding="utf-8")
    assert before in text, f"{path} no longer holds {before!r}"
    if whole_block:
        head, _, rest = text.partition(before)
        lines = rest.splitlines(keepends=True)
        while lines and lines[0].startswith((" ", "\t")):
            del lines[0]
        text = head + after + "".join(lines)
    else:
        text = text.replace(before, after, 1)
    path.chmod(0o644)
    path.write_text(text, encoding="utf-8")


def seal_again(version: Path) -> None:
    """Make the manifest of a version that was edited agree with its files."""
    for path in version.iterdir():
        path.chmod(0o644)
    write_manifest(
        version, msgspec.structs.replace(read_manifest(version), files=digests_of(version))
    )


def edit_traffic(root: Path, model: str, **fields: object) -> None:
    """Change the entry of a model in traffic.yaml."""
    path = root / "traffic.yaml"
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    stated["models"][model].update(fields)
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
