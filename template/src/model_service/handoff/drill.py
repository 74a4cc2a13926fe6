"""`handoff drill`: a fault in a copy of the service, and the clock until somebody has found it.

Whether a copy is well is asked of it as callers and monitoring ask: the same question says what is
wrong when the drill begins, and whether it is over.
"""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import msgspec
import yaml

from model_service.files import FileError, read_yaml, write_atomically
from model_service.handoff.drill_copy import copy_service, what_is_wrong
from model_service.handoff.drill_faults import FAULTS
from model_service.repository import Repository

HEADER = "# Written by `handoff drill`: who solved which planted fault, and by which page.\n"


class DrillError(Exception):
    """A drill that cannot begin or end; says what to do."""


class Drill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One drill that was solved."""

    fault: str
    began: dt.datetime
    minutes: float
    solved_by: str
    email: str
    section: str


class Begun(msgspec.Struct, frozen=True):
    """A drill under way, as it is noted in the copy."""

    fault: str
    began: dt.datetime
    symptom: str


def _begun_file(folder: Path) -> Path:
    return folder / ".drill.json"


def drill_folder(repository: Repository) -> Path:
    """Return where the copy is."""
    return repository.root / "build" / "drill"


def drills_file(repository: Repository) -> Path:
    """Return the record of all drills."""
    return repository.root / "handoff" / "drills.yaml"


def begin(repository: Repository, fault: str, now: dt.datetime) -> Begun:
    """Copy the service, plant a fault, and return what whoever is on call sees.

    Raises:
        DrillError: a drill is under way, or the service has no champion to break.
    """
    folder = drill_folder(repository)
    if _begun_file(folder).is_file():
        raise DrillError(
            f"A drill is under way in {folder}. End it with --solved-by, or delete it."
        )
    shutil.rmtree(folder, ignore_errors=True)
    copy = copy_service(repository, folder)
    if copy is None:
        raise DrillError("No model has a champion that could be broken: train one first.")
    FAULTS[fault](copy)
    symptom = what_is_wrong(copy)
    if symptom is None:
        raise DrillError(f"The fault {fault} does nothing to this service: choose another one.")
    begun = Begun(fault, now, symptom.rstrip("."))
    _begun_file(folder).write_bytes(msgspec.json.encode(begun))
    return begun


def end(
    repository: Repository, solved_by: str, email: str, section: str, now: dt.datetime
) -> Drill:
    """Ask the copy whether it is well again, and keep who solved it.

    Raises:
        DrillError: no drill is under way, the copy is not well, whoever solved it has no address,
            or the runbook has no such section.
    """
    folder = drill_folder(repository)
    if not _begun_file(folder).is_file():
        raise DrillError("No drill is under way: `handoff drill` begins one.")
    if not email:
        raise DrillError(
            "git does not know your address, so nobody can tell whether you built the models: "
            "git config user.email you@example.com"
        )
    if section not in runbook_sections(repository):
        known = ", ".join(runbook_sections(repository))
        raise DrillError(f"docs/runbook.md has no section {section!r}. Sections: {known}.")
    wrong = what_is_wrong(Repository(folder))
    if wrong is not None:
        raise DrillError(f"It is not solved yet: {wrong.rstrip('.')}.")
    begun = msgspec.json.decode(_begun_file(folder).read_bytes(), type=Begun)
    minutes = round((now - begun.began).total_seconds() / 60, 1)
    drill = Drill(begun.fault, begun.began, minutes, solved_by, email, section)
    drills = [*read_drills(repository), drill]
    stated = msgspec.to_builtins(drills, builtin_types=[dt.datetime])
    text = HEADER + yaml.safe_dump(stated, sort_keys=False)
    write_atomically(drills_file(repository), text.encode())
    shutil.rmtree(folder)
    return drill


def read_drills(repository: Repository) -> list[Drill]:
    """Read the record, oldest first.

    Raises:
        DrillError: the file is not understood.
    """
    path = drills_file(repository)
    if not path.is_file():
        return []
    try:
        return msgspec.convert(read_yaml(path) or [], list[Drill])
    except (FileError, msgspec.ValidationError) as error:
        raise DrillError(f"{path} is not understood: {error}") from None


def runbook_sections(repository: Repository) -> list[str]:
    """Return the headings of the runbook."""
    path = repository.root / "docs" / "runbook.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.removeprefix("## ") for line in lines if line.startswith("## ")]
