"""The models and versions of this repository: what every test is run for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from model_service.contract.contract import Contract
from model_service.contract.reading import ContractError, parse_contract
from model_service.registry.manifest import VersionError
from model_service.registry.registry import Registry
from model_service.registry.traffic import read_traffic
from model_service.repository import Repository
from model_service.settings import Settings, read_settings

NEXT_TO_NONE = 1e-9
"""Percent."""
REPOSITORY = Repository(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True)
class Found:
    """A version to test or, with `problem`, something that must be put right before."""

    model: str
    version: str
    folder: Path
    contract: Contract | None
    problem: str | None = None

    def __str__(self) -> str:
        """Return the version as it stands in the names of tests."""
        return f"{self.model}-{self.version}"


@cache
def service_settings() -> Settings:
    """Return the settings of the service, those of the environment included."""
    return read_settings(REPOSITORY, os.environ)


@cache
def registry_folder() -> Path:
    """Return where the trained versions are."""
    return REPOSITORY.root / service_settings().stores.registry


@cache
def found_versions() -> tuple[Found, ...]:
    """Return every version that the registry holds or traffic.yaml names; never nothing at all.

    A model without a version, and a repository without a model, are found with their problem, so
    that the tests fail and say what to run.
    """
    registry, traffic = Registry(registry_folder()), read_traffic(REPOSITORY.traffic)
    command = service_settings().name
    found = []
    for model in sorted({*REPOSITORY.model_names(), *registry.models(), *traffic.models}):
        entry = traffic.models.get(model)
        named = {entry.champion, *entry.pinned} if entry else set()
        versions = {*registry.versions(model), *(version for version in named if version)}
        found += [_found(registry, model, version) for version in sorted(versions, key=_number)]
        if not versions:
            todo = f"{model} has no trained version. Run `{command} train {model}`."
            found.append(Found(model, "untrained", registry_folder(), None, todo))
    if not found:
        found.append(Found("no", "model", registry_folder(), None, _no_model()))
    return tuple(found)


def champions() -> tuple[Found, ...]:
    """Return the versions that answer callers who name none."""
    traffic = read_traffic(REPOSITORY.traffic)
    found = found_versions()
    chosen = tuple(
        each
        for each in found
        if each.problem
        or (each.model in traffic.models and traffic.models[each.model].champion == each.version)
    )
    if chosen:
        return chosen
    todo = f"No model has a champion. Run `{service_settings().name} promote NAME VERSION`."
    return (Found("no", "champion", registry_folder(), None, todo),)


def contracts() -> tuple[Found, ...]:
    """Return every model with a contract, trained or not: what the stub answers."""
    names = REPOSITORY.model_names()
    if names:
        return tuple(Found(name, "stub", REPOSITORY.model_folder(name), None) for name in names)
    return (Found("no", "model", REPOSITORY.models, None, _no_model()),)


def addresses() -> tuple[tuple[Found, str], ...]:
    """Return every way to ask for a version: without one, by each alias, and by its number."""
    traffic = read_traffic(REPOSITORY.traffic).models
    found = []
    for each in found_versions():
        found.append((each, f"/versions/{each.version}"))
        entry = traffic.get(each.model)
        if entry and entry.champion == each.version:
            found += [(each, ""), (each, "/versions/champion")]
        for alias, named in (
            ("challenger", entry and entry.challengers),
            ("shadow", entry and entry.shadows),
        ):
            if named and list(named) == [each.version]:
                found.append((each, f"/versions/{alias}"))
    return tuple(found)


def traffic_with_every_version() -> str:
    """Return a `traffic.yaml` under which a server answers for every version that was found, and
    for every alias; challengers get next to none of the requests that name no version."""
    named = read_traffic(REPOSITORY.traffic).models
    pinned: dict[str, list[str]] = {}
    for found in found_versions():
        if not found.problem:
            pinned.setdefault(found.model, []).append(found.version)
    answering = {found.model: found.version for found in champions() if not found.problem}
    return yaml.safe_dump(
        {
            "models": {
                model: {
                    "champion": answering.get(model, versions[-1]),
                    "challengers": dict.fromkeys(named[model].challengers, NEXT_TO_NONE)
                    if model in named
                    else {},
                    "shadows": list(named[model].shadows) if model in named else [],
                    "pinned": versions,
                    "history": [],
                }
                for model, versions in pinned.items()
            }
        }
    )


def _found(registry: Registry, model: str, version: str) -> Found:
    folder = registry_folder() / model / version
    try:
        registry.folder(model, version)
        path = folder / "contract.yaml"
        contract = parse_contract(path.read_text(encoding="utf-8"), path, model=model)
        return Found(model, version, folder, contract)
    except (OSError, ContractError, VersionError) as error:
        todo = f"Version {version} of {model} cannot be tested: {error}"
        return Found(model, version, folder, None, todo)


def _no_model() -> str:
    command = service_settings().name
    return f"There is no model to test. Run `{command} new NAME`, then `{command} train NAME`."


def _number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdecimal() else 0, version)
