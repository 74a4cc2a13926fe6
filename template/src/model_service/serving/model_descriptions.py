"""What `GET /v1/models` says of a model: its versions, their states and why."""

from __future__ import annotations

from typing import Any

from model_service.serving.loaded_models import ModelState, VersionState


def described(model: ModelState) -> dict[str, Any]:
    """Return everything that is said of a model."""
    return {
        "model": model.name,
        "state": model.state,
        "reason": reason_of(model),
        "aliases": dict(model.aliases),
        "challengers": dict(model.challengers),
        "shadows": model.shadows,
        "versions": [_described_version(model, state) for state in model.versions.values()],
    }


def _described_version(model: ModelState, state: VersionState) -> dict[str, Any]:
    served = state.served
    return {
        "version": state.version,
        "state": state.state,
        "reason": state.reason,
        "code": state.code,
        "aliases": model.aliases_of(state.version),
        "format": served.loaded.manifest.format if served else None,
        "contract_version": served.loaded.contract.contract_version if served else None,
    }


def reason_of(model: ModelState) -> str | None:
    """Return why a model does not answer, or not as traffic.yaml says."""
    champion = model.champion
    return champion.reason if champion and champion.reason else model.reason
