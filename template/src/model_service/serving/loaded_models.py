"""The versions that `traffic.yaml` names: loaded, replayed, and each with its state and why.

`LoadedModels` is a snapshot that never changes; `VersionLoader.current` is swapped for a new one
whenever a version becomes ready or fails. A request keeps the snapshot it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from model_service.registry.loaded_version import LoadedVersion, VersionError, load_version
from model_service.registry.registry import Registry
from model_service.registry.traffic import Traffic
from model_service.repository import Repository
from model_service.serving.batcher import Batcher
from model_service.serving.logs import LogWriter, event_line, failure_line
from model_service.serving.metrics import Metrics, VersionMeters, VersionStatus
from model_service.serving.problems import ProblemError
from model_service.settings import Settings

VersionPhase = Literal["loading", "ready", "failed", "not_served"]
ModelPhase = Literal["loading", "ready", "failed", "untrained"]
CHAMPION = "champion"


class ServedVersion:
    """A version that answers: what was loaded, its batcher and its meters."""

    __slots__ = ("batcher", "classes", "loaded", "meters", "model", "version")

    def __init__(self, loaded: LoadedVersion, batcher: Batcher, meters: VersionMeters) -> None:
        self.model = loaded.model
        self.version = loaded.version
        self.loaded = loaded
        self.batcher = batcher
        self.meters = meters
        self.classes = loaded.contract.output.classes


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
    """A model with its aliases and the versions of the registry."""

    name: str
    aliases: Mapping[str, str]
    versions: Mapping[str, VersionState]
    reason: str | None = None

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

        A model that has no champion yet holds nothing back: nobody was promised its answers.
        """
        return self.state in ("loading", "failed")

    def aliases_of(self, version: str) -> tuple[str, ...]:
        """Return the aliases that stand for `version`."""
        return tuple(alias for alias, number in self.aliases.items() if number == version)


class LoadedModels:
    """One snapshot of every model. Nothing in it changes."""

    def __init__(self, models: Mapping[str, ModelState]) -> None:
        self.models = models
        self._doors = dict(_doors(models))

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
        resolved = self._doors.get((model, wanted))
        if resolved is None:
            raise self._why_not(model, wanted)
        return resolved

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
        number = model.aliases.get(wanted or CHAMPION, wanted or CHAMPION)
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


class VersionLoader:
    """Loads versions one after the other, outside the event loop. `current` is the snapshot."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        traffic: Traffic,
        metrics: Callable[[], Metrics],
        log: LogWriter,
    ) -> None:
        self._settings = settings
        self._registry = Registry(registry_folder(settings, repository))
        self._metrics = metrics
        self._log = log
        self.current = LoadedModels(_named(settings, repository, self._registry, traffic))

    def load(self) -> None:
        """Load every version that is still `loading`. One that fails never stops another."""
        for model in self.current.models.values():
            for state in model.versions.values():
                if state.state == "loading":
                    loaded = self._load_one(model.name, state.version)
                    self.current = self.current.replacing(model.name, loaded)

    def close(self) -> None:
        """Let the threads of all versions end."""
        for model in self.current.models.values():
            for state in model.versions.values():
                if state.served is not None:
                    state.served.batcher.close()

    def _load_one(self, model: str, version: str) -> VersionState:
        try:
            served = self._serve(model, version)
        except VersionError as error:
            state = VersionState(version, "failed", str(error), error.code)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the others serve
            reason = f"{type(error).__name__}: {error}"
            state = VersionState(version, "failed", reason, "unexpected")
        else:
            self._log.append(event_line("INFO", "version ready", model=model, version=version))
            return VersionState(version, "ready", served=served)
        told = f"version failed to load: {state.reason}"
        self._log.append(event_line("ERROR", told, model=model, version=version))
        return state

    def _serve(self, model: str, version: str) -> ServedVersion:
        limits = self._settings.limits
        folder = self._registry.folder(model, version)
        loaded = load_version(folder, rows_limit=limits.rows_per_request)
        differences = loaded.replay_golden()
        if differences:
            raise VersionError(
                "golden_mismatch",
                f"{len(differences)} golden predictions are answered differently now, the first: "
                f"{differences[0]}. Run `{self._settings.name} verify {model}`, and train a new "
                "version with the libraries that are installed.",
            )

        def log_failure(error: BaseException) -> None:
            self._log.append(failure_line(error, model=model, version=version))

        batcher = Batcher(
            loaded.predict,
            runs_inline=loaded.runs_inline,
            queue_rows=limits.queue_rows,
            seconds=limits.seconds_per_request,
            name=f"{model} {version}",
            on_failure=log_failure,
        )
        return ServedVersion(loaded, batcher, self._metrics().version(model, version))


def registry_folder(settings: Settings, repository: Repository) -> Path:
    """Return the folder of the registry."""
    return repository.root / settings.stores.registry


def _named(
    settings: Settings, repository: Repository, registry: Registry, traffic: Traffic
) -> dict[str, ModelState]:
    """Return every model before anything is loaded."""
    names = sorted({*repository.model_names(), *traffic.models})
    return {name: _unloaded(settings, name, registry, traffic) for name in names}


def _unloaded(settings: Settings, name: str, registry: Registry, traffic: Traffic) -> ModelState:
    in_registry = registry.versions(name)
    entry = traffic.models.get(name)
    champion = entry.champion if entry else None
    named = entry.served if entry else ()
    versions = {
        version: VersionState(version, "loading")
        if version in named
        else VersionState(version, "not_served", "traffic.yaml does not name this version.")
        for version in sorted({*in_registry, *named}, key=_by_number)
    }
    reason = None
    if champion is None:
        todo = f"promote {name} {in_registry[-1]}" if in_registry else f"train {name}"
        reason = f"{name} has no champion yet. Run `{settings.name} {todo}`, then serve again."
    return ModelState(name, {CHAMPION: champion} if champion else {}, versions, reason)


def _by_number(version: str) -> tuple[int, str]:
    return (int(version) if version.isascii() and version.isdecimal() else 0, version)
