"""The documents that are made from contracts: made once for each snapshot that is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from model_service.contract.contract import Contract
from model_service.contract.openapi import openapi_document
from model_service.serving.docs_page import docs_page
from model_service.serving.loaded_models import LoadedModels
from model_service.settings import Settings


class Documents:
    """What /docs and /openapi.json answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made_from: LoadedModels | None = None
        self._page = ""
        self._openapi = b""

    def page(self, models: LoadedModels) -> str:
        self._make(models)
        return self._page

    def openapi(self, models: LoadedModels) -> bytes:
        self._make(models)
        return self._openapi

    def _make(self, models: LoadedModels) -> None:
        if self._made_from is models:
            return
        document = served_document(self._settings, contracts_of(models))
        self._openapi = msgspec.json.encode(document)
        self._page = docs_page(self._settings, models)
        self._made_from = models


def served_document(settings: Settings, contracts: Iterable[Contract]) -> dict[str, Any]:
    """Return the OpenAPI document of a service with these contracts, as it is also handed over."""
    return openapi_document(
        settings.title or settings.name,
        contracts,
        description=settings.description,
        rows_limit=settings.limits.rows_per_request,
        needs_key=bool(settings.api_keys),
    )


def contracts_of(models: LoadedModels) -> list[Contract]:
    """Return the contract of each model that answers: that of its champion."""
    champions = [model.champion for model in models.models.values()]
    return [state.served.loaded.contract for state in champions if state and state.served]
