"""The versions that `traffic.yaml` names, each with its state and why, as one snapshot.

`LoadedModels` never changes; `VersionLoader.current` is swapped for a new one whenever a version
becomes ready or fails, or `traffic.yaml` changes. A request keeps the snapshot it began with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from model_service.registry.loaded_version import LoadedVersion
from model_service.serving.batcher import Batcher
from model_service.serving.metrics import VersionMeters, VersionStatus
from model_service.serving.problems import ProblemError
from model_service.serving.routing import Routing
from model_service.serving.shadow import Shadow

VersionPhase = Literal["loading", "ready", "failed", "not_served"]
ModelPhase = Literal["loading", "ready", "failed", "untrained"]
CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
DRILL_ALIAS = "drill"
"""Asks the champion with the drifted rows of a fire drill, which must not count as its own."""


class ServedVersion:
    """A version that answers: what was loaded, its batcher, its meters, and it as a shadow."""

    __slots__ = ("_drill", "batcher", "loaded", "meters", "model", "shadow", "version")

    def __init__(
        self, loaded: LoadedVersion, batcher: Batcher, meters: VersionMeters, shadow: Shadow
    ) -> None:
        self.model = loaded.model
        self.version = loaded.version
        self.loaded = loaded
        self.batcher = batcher
        self.meters = meters
        self.shadow = shadow
        self._drill: ServedVersion | None = None

    def as_drill(self) -> ServedVersion:
        """Return the version as a fire drill asks it: the same answers under another name."""
        if self._drill is None:
            loaded, meters = self.loaded.as_drill(), self.meters.of_drill()
            self._drill = ServedVersion(loaded, self.batcher, meters, self.shadow)
        return self._drill


class Resolved(msgspec.Struct, frozen=True, gc=False):
    """The version that a request asked for, and by which alias (None: by its number)."""

    served: ServedVersion
    alias: str | None


class VersionState(msgspec.Struct, frozen=True):
    """Whether a version answers and, if not, why and what to do."""

    version: str
    state: VersionPhase
    reason: str | None = None
    code: str | None = None
    served: ServedVersion | None = None


class ModelState(msgspec.Struct, frozen=True):
    """A model with its aliases and the versions of the registry.

    `challengers` maps versions to their percentage of the requests that name no version. A model
    `came_later` if it was named when the service was ready without it.
    """

    name: str
    aliases: Mapping[str, str]
    versions: Mapping[str, VersionState]
    reason: str | None = None
    challengers: Mapping[str, float] = {}
    shadows: tuple[str, ...] = ()
    came_later: bool = False

    @property
    def champion(self) -> VersionState | None:
        """The version that answers callers who name none."""
        version = self.aliases.get(CHAMPION)
        return self.versions[version] if version is not None else None

    @property
    def state(self) -> ModelPhase:
        """The state of the champion; `untrained` without one."""
        champion = self.champion
        if champion is None or champion.state == "not_served":
            return "untrained"
        return champion.state

    @property
    def holds_back(self) -> bool:
        """Whether the service is not ready because of this model: its champion does not answer.

        A model that has no champion yet holds nothing back: nobody was promised its answers. Nor
        does one that came later: those who ask the others would lose all replicas at once.
        """
        return self.state in ("loading", "failed") and not self.came_later

    def aliases_of(self, version: str) -> tuple[str, ...]:
        """Return the aliases that stand for `version`."""
        return tuple(alias for alias, number in self.aliases.items() if number == version)

    def served(self, version: str) -> ServedVersion | None:
        """Return a version if it answers."""
        state = self.versions.get(version)
        return state.served if state else None


class LoadedModels:
    """One snapshot of every model. Nothing in it changes."""

    def __init__(self, models: Mapping[str, ModelState]) -> None:
        self.models = models
        self._doors = dict(_doors(models))
        self.routings = dict(_routings(models))

    @property
    def is_ready(self) -> bool:
        """Whether every model that has a champion answers; False if no model has one."""
        models = self.models.values()
        return any(m.state == "ready" for m in models) and not any(m.holds_back for m in models)

    def resolve(self, model: str, wanted: str | None) -> Resolved:
        """Return the version for a version number, an alias, or None for the champion.

        Raises:
            ProblemError: there is no such model or version, or it cannot answer now.
        """
        resolved = self._doors.get((model, CHAMPION if wanted == DRILL_ALIAS else wanted))
        if resolved is not None and wanted == DRILL_ALIAS:
            return Resolved(resolved.served.as_drill(), DRILL_ALIAS)
        if resolved is None:
            raise self._why_not(model, wanted)
        return resolved

    def answering(self) -> list[ServedVersion]:
        """Return the versions that answer."""
        states = [state for model in self.models.values() for state in model.versions.values()]
        return [state.served for state in states if state.served]

    def replacing(self, model: str, state: VersionState) -> LoadedModels:
        """Return a snapshot in which one version is in another state."""
        old = self.models[model]
        versions = {**old.versions, state.version: state}
        changed = msgspec.structs.replace(old, versions=versions)
        return LoadedModels({**self.models, model: changed})

    def statuses(self) -> Iterator[VersionStatus]:
        """Yield what a scrape says of every version that traffic.yaml names."""
        for model in self.models.values():
            for state in model.versions.values():
                if state.state != "not_served":
                    served = state.served
                    file_format = served.loaded.manifest.format if served else ""
                    yield VersionStatus(
                        model.name,
                        state.version,
                        state.state,
                        model.aliases_of(state.version),
                        file_format,
                    )

    def find(self, model: str) -> ModelState:
        """Return a model by its name.

        Raises:
            ProblemError: there is no such model.
        """
        if model not in self.models:
            known = ", ".join(sorted(self.models)[:50]) or "none yet"
            raise ProblemError(
                "model-not-found", f"No model has that name. Models of this service: {known}."
            )
        return self.models[model]

    def _why_not(self, name: str, wanted: str | None) -> ProblemError:
        try:
            model = self.find(name)
        except ProblemError as problem:
            return problem
        if wanted is None and model.champion is None:
            return ProblemError("model-not-ready", model.reason or "")
        wanted = CHAMPION if wanted is None else wanted
        number = model.aliases.get(wanted, wanted)
        state = model.versions.get(number)
        if state is None or state.state == "not_served":
            served = [v.version for v in model.versions.values() if v.state != "not_served"]
            listed = ", ".join([*model.aliases, *served]) or "none"
            reason = (state and state.reason) or "The model has no such version or alias."
            return ProblemError("version-not-found", f"{reason} Served: {listed}.")
        if state.state == "loading":
            return ProblemError(
                "model-not-ready",
                f"Version {number} of {name} is loading; send again in a second.",
                headers=((b"retry-after", b"1"),),
            )
        return ProblemError(
            "model-not-ready", f"Version {number} of {name} stays out: {state.reason}"
        )


def _doors(
    models: Mapping[str, ModelState],
) -> Iterator[tuple[tuple[str, str | None], Resolved]]:
    for model in models.values():
        for state in model.versions.values():
            if state.served is None:
                continue
            yield (model.name, state.version), Resolved(state.served, None)
            for alias in model.aliases_of(state.version):
                yield (model.name, alias), Resolved(state.served, alias)
                if alias == CHAMPION:
                    yield (model.name, None), Resolved(state.served, alias)


def _routings(models: Mapping[str, ModelState]) -> Iterator[tuple[str, Routing[Resolved]]]:
    """Yield how the requests without a version are shared out, where more than one version answers.

    The share of a challenger that does not answer stays with the champion.
    """
    for model in models.values():
        champion = model.served(model.aliases.get(CHAMPION, ""))
        challengers = [
            (percent, Resolved(served, CHALLENGER))
            for version, percent in model.challengers.items()
            if (served := model.served(version))
        ]
        shadows = [served.shadow for v in model.shadows if (served := model.served(v))]
        if champion is not None and (challengers or shadows):
            yield (
                model.name,
                Routing(model.name, Resolved(champion, CHAMPION), challengers, shadows),
            )
