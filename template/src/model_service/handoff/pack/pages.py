"""The pages of a service in `handoff/pages/`: the same bytes for the same repository."""

from __future__ import annotations

import hashlib
from pathlib import Path

from model_service.handoff.bundle import contracts_in, make_bundle
from model_service.handoff.generated_files import SUMS, Files, with_sums
from model_service.handoff.pack import backend, devops, product
from model_service.handoff.pack.html import page
from model_service.registry.manifest import Manifest, VersionError, read_manifest
from model_service.registry.registry import Registry
from model_service.registry.traffic import read_traffic
from model_service.repository import Repository
from model_service.settings import Settings


class PackError(Exception):
    """The pages cannot be made here; says what is missing."""


def pages_folder(repository: Repository) -> Path:
    """Return where the pages are committed."""
    return repository.root / "handoff" / "pages"


def make_pages(repository: Repository, settings: Settings) -> Files:
    """Return every page by its name.

    Raises:
        ContractError: a contract cannot be read.
        PackError: a version that answers is not in the registry here, or is not what was trained.
    """
    contracts = contracts_in(repository)
    champions = _champions(repository, settings)
    sums = make_bundle(settings, contracts)[SUMS]
    answering = ", ".join(f"{each.model} version {each.version}" for each in champions.values())
    made_from = (
        f"Made by `{settings.name} handoff pack` from the contracts, service.yaml and the versions "
        f"that answer ({answering or 'none yet'}). Contract bundle: sha256 "
        f"{hashlib.sha256(sums).hexdigest()}."
    )
    service = settings.title or settings.name
    parts = {
        "backend": (backend.LEAD, backend.sections_of(settings, contracts)),
        "DevOps": (devops.LEAD, devops.sections_of(repository, settings)),
        "product": (
            product.LEAD,
            product.sections_of(repository, settings, contracts, champions),
        ),
    }
    return with_sums(
        {
            f"{audience.lower()}.html": page(service, audience, lead, sections, made_from)
            for audience, (lead, sections) in parts.items()
        }
    )


def _champions(repository: Repository, settings: Settings) -> dict[str, Manifest]:
    registry = Registry(repository.root / settings.stores.registry)
    found = {}
    for name, entry in sorted(read_traffic(repository.traffic).models.items()):
        if entry.champion is None or name not in repository.model_names():
            continue
        try:
            found[name] = read_manifest(registry.folder(name, entry.champion))
        except VersionError as error:
            raise PackError(
                f"The pages tell how good version {entry.champion} of {name} is, and it is not "
                f"here: {error} Bring it: `{settings.name} pull`, or train it."
            ) from None
    return found
