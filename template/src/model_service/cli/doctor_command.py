"""`doctor`: what is not as it should be, before it surprises somebody."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from model_service.cli.ownership import edited_template_files
from model_service.cli.terminal import (
    NOT_IN_ORDER,
    command_line,
    literal,
    say_json,
    say_table,
    state,
)

if TYPE_CHECKING:
    from model_service.effective_settings import EffectiveSetting
    from model_service.repository import Repository


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: `good` is None where it is worth a look but breaks nothing."""

    subject: str
    good: bool | None
    text: str


def add_to(app: typer.Typer) -> None:
    """Add this command to the service's command."""
    app.command("doctor", rich_help_panel="Repository")(doctor)


def doctor(
    context: typer.Context,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask whether there is a newer template.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Look over the environment, the settings, the models and the template's files.

    Secrets are masked: what it prints may be shown to others.
    """
    repository: Repository = context.obj
    findings = [
        *_environment(repository),
        *_settings(repository),
        *_models(repository),
        *_template(repository, online),
    ]
    settings = _effective(repository)
    if as_json:
        say_json({"findings": findings, "settings": settings})
    else:
        say_table(
            ("setting", "comes from", "value"),
            [(s.name, s.origin, literal(msgspec.json.encode(s.value).decode())) for s in settings],
        )
        say_table(
            ("", "looked at", "found"),
            [(state(f.good), f.subject, literal(f.text)) for f in findings],
        )
    if any(finding.good is False for finding in findings):
        raise SystemExit(NOT_IN_ORDER)


def _environment(repository: Repository) -> Iterator[Finding]:
    yield Finding("Python", True, platform.python_version())
    constraints = repository.root / "config" / "constraints.txt"
    if not constraints.is_file():
        yield Finding("libraries", None, f"{constraints} is not there: versions are not checked.")
        return
    # A library may be pinned more than once, to a version for each range of Python's.
    pinned: dict[str, list[str]] = {}
    lines = constraints.read_text(encoding="utf-8")
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lines, re.MULTILINE):
        pinned.setdefault(name, []).append(version)
    others = []
    for name, versions in pinned.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if installed not in versions:
            others.append(f"{name} {installed} instead of {' or '.join(versions)}")
    text = "; ".join(others) + ". `make setup` installs what was tested." if others else ""
    yield Finding("libraries", not others, text or "as tested together (config/constraints.txt)")


def _settings(repository: Repository) -> Iterator[Finding]:
    from model_service.settings import SettingsError, read_settings

    try:
        settings = read_settings(repository, os.environ)
    except SettingsError as error:
        yield Finding("settings", False, str(error))
        return
    yield Finding("settings", True, "understood; docs/settings.md says what each one means")
    owners = [owner for owner in settings.owners if owner in ("@first-owner", "@second-owner")]
    if owners or len(set(settings.owners)) < 2:
        yield Finding("owners", None, "service.yaml needs two real owners, CODEOWNERS as well.")
    else:
        yield Finding("owners", True, ", ".join(settings.owners))


def _effective(repository: Repository) -> list[EffectiveSetting]:
    """Return every setting as it holds; none if they are not understood, which is a finding."""
    from model_service.effective_settings import effective_settings
    from model_service.settings import SettingsError

    try:
        return effective_settings(repository, os.environ)
    except SettingsError:
        return []


def _models(repository: Repository) -> Iterator[Finding]:
    from model_service.cli.version_commands import registry_of
    from model_service.contract.reading import ContractError, read_contract
    from model_service.registry.traffic import read_traffic

    registry = registry_of(repository)
    traffic = read_traffic(repository.traffic).models
    for name in sorted({*repository.model_names(), *traffic}):
        path = repository.model_folder(name) / "contract.yaml"
        entry = traffic.get(name)
        versions = registry.versions(name)
        if not path.is_file():
            text = f"traffic.yaml names it, {path} is not there: restore that from git, or"
            yield Finding(name, None, f"{text} take it out of traffic.yaml to answer no more.")
            continue
        try:
            read_contract(path)
        except ContractError as error:
            see = command_line(f"contract check {name}")
            yield Finding(name, False, f"{len(error.faults)} faults: see {see}.")
            continue
        if not versions:
            yield Finding(name, None, f"no version yet: {command_line(f'train {name}')}")
        elif entry is None or entry.champion not in versions:
            promote = command_line(f"promote {name} {versions[-1]}")
            yield Finding(name, False, f"no champion: {promote}")
        else:
            yield Finding(name, True, f"version {entry.champion} of {len(versions)} answers")


def _template(repository: Repository, online: bool) -> Iterator[Finding]:
    edited = edited_template_files(repository.root)
    if edited is None:
        yield Finding(
            "template", None, "not in git, or not rendered by Copier: nothing to compare."
        )
    elif edited:
        text = ", ".join(edited[:8]) + (" …" if len(edited) > 8 else "")
        yield Finding("template", None, f"edited although the template owns them: {text}")
    else:
        yield Finding("template", True, "no file of the template was edited")
    if online:
        yield _newer_template(repository)


def _newer_template(repository: Repository) -> Finding:
    from model_service.cli.update_command import COPIER, moved

    asking = [*COPIER, "check-update", "--quiet", str(repository.root)]
    try:
        code = subprocess.run(asking, capture_output=True, timeout=120, check=False).returncode  # noqa: S603
    except subprocess.TimeoutExpired:
        code = -1
    if code == 0:
        return Finding("template", True, "the newest version")
    if code == 2:
        return Finding("template", None, f"there is a newer version: {command_line('update')}")
    text = f"could not ask for a newer version. {moved(repository.root)}"
    return Finding("template", None, text)
