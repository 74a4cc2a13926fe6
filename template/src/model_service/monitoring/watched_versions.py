"""Which versions are watched: those that traffic.yaml names, and drills that are under way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec

from model_service.contract.contract import Contract
from model_service.contract.reading import parse_contract
from model_service.model_settings import PREDICTION, ModelSettings, read_model_settings
from model_service.prediction_log.store import PredictionStore
from model_service.registry.manifest import DRILL, Manifest, read_manifest
from model_service.registry.profile import (
    ProfileMismatchError,
    ReferenceProfile,
    output_names,
    read_profile,
)
from model_service.registry.registry import Registry
from model_service.registry.traffic import read_traffic
from model_service.repository import Repository

SECONDS_A_DRILL_IS_WATCHED = 1800.0


class WatchedVersion(msgspec.Struct, frozen=True):
    """A version with what it is held against. Without a profile, `profile_state` says why."""

    model: str
    version: str
    roles: tuple[str, ...]
    folder: Path
    manifest: Manifest
    contract: Contract
    settings: ModelSettings
    profile: ReferenceProfile | None
    profile_state: str

    @property
    def is_drill(self) -> bool:
        """Whether it is the drifted copy of a fire drill."""
        return self.version.endswith(DRILL)

    @property
    def is_asked(self) -> bool:
        """Whether callers who name no version get its answers."""
        return any(role.startswith(("champion", "challenger")) for role in self.roles)

    @property
    def outputs(self) -> tuple[str, str]:
        """The names under which its prediction and its score are counted."""
        return output_names(self.contract)

    @property
    def trained_at(self) -> float:
        """When it was trained, in seconds since 1970."""
        return dt.datetime.fromisoformat(self.manifest.created_at).timestamp()

    def expected_at(self, moment: float) -> frozenset[str]:
        """Return the features that model.yaml expects to change on the day of a moment."""
        day = dt.datetime.fromtimestamp(moment, dt.UTC).date()
        changes = self.settings.expected_changes
        named = {c.feature for c in changes if c.since <= day <= c.until}
        return frozenset({*named, *self.outputs} if PREDICTION in named else named)


def watched_versions(
    repository: Repository, registry: Registry, store: PredictionStore, now: float
) -> Iterator[WatchedVersion | tuple[str, str, Exception]]:
    """Yield every version that is watched; or model, version and error of one that cannot be."""
    drills = {
        (seen.model, seen.version)
        for seen in store.activity(now - SECONDS_A_DRILL_IS_WATCHED, now + 60)
        if seen.version.endswith(DRILL)
    }
    for model, entry in read_traffic(repository.traffic).models.items():
        names = [(version, entry.roles_of(version)) for version in entry.served]
        names += [(version, ("drill",)) for named, version in sorted(drills) if named == model]
        for version, roles in names:
            try:
                yield _watched(repository, registry, model, version, roles)
            except Exception as error:  # noqa: BLE001 - one that is broken hides no other
                yield model, version, error


def _watched(
    repository: Repository, registry: Registry, model: str, version: str, roles: tuple[str, ...]
) -> WatchedVersion:
    folder = registry.folder(model, version.removesuffix(DRILL))
    contract_file = folder / "contract.yaml"
    contract = parse_contract(contract_file.read_text(encoding="utf-8"), contract_file, model=model)
    profile: ReferenceProfile | None = None
    state = "ok"
    try:
        profile = read_profile(folder)
    except ProfileMismatchError:
        state = "mismatch" if (folder / "profile.json").is_file() else "missing"
    return WatchedVersion(
        model=model,
        version=version,
        roles=roles,
        folder=folder,
        manifest=read_manifest(folder),
        contract=contract,
        settings=read_model_settings(repository, model),
        profile=profile,
        profile_state=state,
    )
