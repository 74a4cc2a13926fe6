"""The version of a model that answers now, for a model's own tests and for notebooks."""

from __future__ import annotations

import os
from pathlib import Path

from model_service.registry.loaded_version import LoadedVersion, VersionError, load_version
from model_service.registry.registry import Registry
from model_service.registry.traffic import read_traffic
from model_service.repository import find_repository
from model_service.settings import read_settings


def load_champion(model: str, start: Path | None = None) -> LoadedVersion:
    """Load the champion of a model of the repository around `start` (or the working directory).

    Raises:
        VersionError: the model has no champion, or it cannot be loaded.
    """
    repository = find_repository(start)
    entry = read_traffic(repository.traffic).models.get(model)
    if entry is None or entry.champion is None:
        raise VersionError("not_found", f"{model} has no champion: run `train {model}` first.")
    settings = read_settings(repository, os.environ)
    registry = Registry(repository.root / settings.stores.registry)
    return load_version(registry.folder(model, entry.champion))
