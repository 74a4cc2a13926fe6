"""Loads the versions that `traffic.yaml` names, and follows that file while the service runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import msgspec

from model_service.hooks import Hooks, Loaded
from model_service.model_settings import ModelSettingsError, read_model_settings
from model_service.registry.loaded_version import LoadedVersion
from model_service.registry.manifest import VersionError
from model_service.registry.traffic import ModelTraffic, Traffic, TrafficError
from model_service.repository import Repository
from model_service.serving.batcher import Batcher
from model_service.serving.loaded_models import (
    CHALLENGER,
    CHAMPION,
    SHADOW,
    LoadedModels,
    ModelState,
    ServedVersion,
    VersionPhase,
    VersionState,
)
from model_service.serving.logs import LogWriter, event_line, failure_line, notice_line
from model_service.serving.metrics import Metrics
from model_service.serving.prediction_recorder import PredictionRecorder
from model_service.serving.row_answers import AnsweringVersion
from model_service.serving.shadow import Shadow
from model_service.serving.version_source import VersionSource
from model_service.settings import Settings

Stamp = tuple[int, int, int]
SECONDS_UNTIL_ANOTHER_TRY = 5.0
"""After which a version is looked for again whose files could not be read: a volume may come late,
or come back."""
SECONDS_FOR_A_VERSION = 5.0
"""After which the next one is loaded, while one that is slow, or hangs, goes on."""
_MAY_COME_BACK = ("not_found", "missing_file", "unreadable_file", "still_loading")
"""Tried again though none of its files has changed."""


class VersionLoader:
    """Loads versions one after the other, outside the event loop. `current` is the snapshot.

    `traffic_fault` says why a change of `traffic.yaml` is not followed; None while it is.

    Raises:
        TrafficError: `traffic.yaml` cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        source: VersionSource,
        metrics: Callable[[], Metrics],
        log: LogWriter,
        recorder: PredictionRecorder,
        hooks: Hooks,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._source = source
        self._metrics = metrics
        self._log = log
        self._recorder = recorder
        self._hooks = hooks
        self._loading = threading.Lock()
        self._slow: dict[tuple[str, str], Future[LoadedVersion]] = {}
        self._stamps: dict[tuple[str, str], object] = {}
        self._try_again_at = float("inf")
        self._stamp = _stamp(repository.traffic)
        self._settling: Stamp | None = self._stamp
        self.traffic_fault: str | None = None
        self.current = LoadedModels(self._unloaded(source.traffic()))

    def load(self) -> None:
        """Load every version that is still `loading`. One that fails never stops another."""
        with self._loading:
            for model in self.current.models.values():
                for state in model.versions.values():
                    if state.state == "loading":
                        loaded = self._load_one(model.name, state.version)
                        self.current = self.current.replacing(model.name, loaded)
        self._plan_another_try()

    def follow(self) -> bool:
        """Look whether `traffic.yaml` was changed, and serve what it says now.

        A file is read when two looks in a row found it the same: an editor may still be writing.
        Return whether what is served was changed.
        """
        stamp, before = _stamp(self._repository.traffic), self.current.answering()
        settled = stamp == self._settling
        self._settling = stamp
        changed = stamp != self._stamp and settled
        if not changed and (time.monotonic() < self._try_again_at or not settled):
            return False
        if changed:
            self._stamp = stamp
        try:
            self._serve_only(self._changed_traffic(), again=changed)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, what answers goes on
            if changed or str(error) != self.traffic_fault:
                self._log.append(notice_line("ERROR", f"traffic.yaml is not followed: {error}"))
            self.traffic_fault = str(error)
            self._plan_another_try(isinstance(error, OSError))
            return False
        self.traffic_fault = None
        self._plan_another_try()
        if changed:
            self._log.append(notice_line("INFO", "traffic.yaml was changed and is followed"))
        return changed or self.current.answering() != before

    def _plan_another_try(self, is_due: bool = False) -> None:
        states = [s for model in self.current.models.values() for s in model.versions.values()]
        due = is_due or any(s.state == "failed" or s.code in _MAY_COME_BACK for s in states)
        self._try_again_at = time.monotonic() + SECONDS_UNTIL_ANOTHER_TRY if due else float("inf")

    def close(self) -> None:
        """Let the threads of all versions end."""
        for model in self.current.models.values():
            for state in model.versions.values():
                if state.served is not None:
                    state.served.batcher.close()

    def _changed_traffic(self) -> Traffic:
        traffic = self._source.traffic()
        answering = any(model.champion for model in self.current.models.values())
        if answering and not any(entry.champion for entry in traffic.models.values()):
            raise TrafficError("it names no champion any more; what answered goes on answering.")
        return traffic

    def _serve_only(self, traffic: Traffic, *, again: bool) -> None:
        """Load what is new, then change over in one step; requests under way keep what they had.

        Versions that failed are tried `again`, or else only where their files have changed.
        """
        with self._loading:
            named = self._unloaded(traffic)
            self.current = LoadedModels(
                {name: self._changed_over(model, again) for name, model in named.items()}
            )

    def _changed_over(self, named: ModelState, again: bool) -> ModelState:
        before = self.current.models.get(named.name)
        versions = {
            version: self._ready_again(named.name, before, state, again)
            for version, state in named.versions.items()
        }
        after = msgspec.structs.replace(named, versions=versions, came_later=self.current.is_ready)
        champion = after.champion
        if champion is None or champion.served or before is None or before.champion is None:
            return after
        if before.champion.served is None:
            return after
        reason = (
            f"traffic.yaml names version {champion.version} as champion, which stays out: "
            f"{champion.reason} Version {before.champion.version} goes on answering."
        )
        answering = {v: state for v, state in before.versions.items() if state.served}
        return msgspec.structs.replace(before, versions={**versions, **answering}, reason=reason)

    def _ready_again(
        self, model: str, before: ModelState | None, state: VersionState, again: bool
    ) -> VersionState:
        if state.state != "loading":
            return state
        was = before.versions.get(state.version) if before else None
        if was and (was.served or not (again or self._may_load_now(model, was))):
            return was
        return self._load_one(model, state.version, told=was.reason if was else None)

    def _may_load_now(self, model: str, was: VersionState) -> bool:
        if was.state == "not_served" or was.code in _MAY_COME_BACK:
            return True
        return self._stamps.get((model, was.version)) != self._source.stamp(model, was.version)

    def _load_one(self, model: str, version: str, told: str | None = None) -> VersionState:
        """Load a version; that it fails is told once, not at each try."""
        try:
            served = self._serve(model, version)
        except VersionError as error:
            phase: VersionPhase = "loading" if error.code == "still_loading" else "failed"
            state = VersionState(version, phase, str(error), error.code)
        except OSError as error:
            reason = f"The registry cannot be read: {error}"
            state = VersionState(version, "failed", reason, "unreadable_file")
        except BaseException as error:  # noqa: BLE001 - even if it exits, the others serve
            reason = f"{type(error).__name__}: {error}"
            state = VersionState(version, "failed", reason, "unexpected")
        else:
            self._log.append(event_line("INFO", "version ready", model=model, version=version))
            self._hooks.offer("on_load", Loaded(model, version, "ready"))
            return VersionState(version, "ready", served=served)
        if state.reason == told:
            return state
        what = "failed to load" if state.state == "failed" else "is not ready"
        body = f"version {what}: {state.reason}"
        self._log.append(event_line("ERROR", body, model=model, version=version))
        if state.state == "failed":
            self._hooks.offer("on_load", Loaded(model, version, "failed", state.reason))
        return state

    def _serve(self, model: str, version: str) -> ServedVersion:
        limits = self._settings.limits
        loaded = self._load(model, version)
        log = self._log

        def log_failure(error: BaseException) -> None:
            log.append(failure_line(error, model=model, version=version))

        batcher = Batcher(
            AnsweringVersion(loaded).answer,
            runs_inline=loaded.runs_inline,
            queue_rows=limits.queue_rows,
            queue_seconds=limits.queue_seconds,
            seconds=limits.seconds_per_request,
            batches=self._batches(model),
            name=f"{model} {version}",
            on_failure=log_failure,
        )
        meters = self._metrics().version(model, version)
        shadow = Shadow(loaded, meters.shadow_rows, log, self._recorder)
        return ServedVersion(loaded, batcher, meters, shadow)

    def _load(self, model: str, version: str) -> LoadedVersion:
        """Load in a thread that nobody waits for in the end: the code of a version may hang.

        Raises:
            VersionError: the version may not answer, or is still loading.
        """
        seconds = 0.0 if (model, version) in self._slow else SECONDS_FOR_A_VERSION
        loading = self._slow.pop((model, version), None)
        if loading is None:
            self._stamps[model, version] = self._source.stamp(model, version)
            loading = _in_a_thread(partial(self._source.load, model, version))
        try:
            return loading.result(seconds)
        except TimeoutError:
            if loading.done():
                raise
            self._slow[model, version] = loading
            told = f"It is still loading after {SECONDS_FOR_A_VERSION:g} seconds."
            raise VersionError("still_loading", told) from None

    def _batches(self, model: str) -> bool:
        try:
            return read_model_settings(self._repository, model).batching
        except ModelSettingsError as error:  # no reason to answer nobody
            self._log.append(notice_line("ERROR", str(error)))
            return True

    def _unloaded(self, traffic: Traffic) -> dict[str, ModelState]:
        """Return every model before anything is loaded."""
        names = sorted(
            self._settings.server.models or {*self._repository.model_names(), *traffic.models}
        )
        return {
            name: _unloaded_model(
                self._settings, name, self._versions(name), traffic.models.get(name)
            )
            for name in names
        }

    def _versions(self, model: str) -> list[str]:
        try:
            return self._source.versions(model)
        except OSError:  # each version that traffic.yaml names says so when it is loaded
            return []


def _unloaded_model(
    settings: Settings, name: str, in_registry: list[str], entry: ModelTraffic | None
) -> ModelState:
    entry = entry or ModelTraffic()
    versions = {
        version: VersionState(version, "loading")
        if version in entry.served
        else VersionState(version, "not_served", "traffic.yaml does not name this version.")
        for version in sorted({*in_registry, *entry.served}, key=_by_number)
    }
    reason = None
    if entry.champion is None:
        todo = f"promote {name} {in_registry[-1]}" if in_registry else f"train {name}"
        reason = f"{name} has no champion yet. Run `{settings.name} {todo}`."
    aliases = _aliases(entry)
    return ModelState(name, aliases, versions, reason, entry.challengers, entry.shadows)


def _aliases(entry: ModelTraffic) -> Mapping[str, str]:
    """Return the names that stand for one version; of several challengers none is the one."""
    aliases = {CHAMPION: entry.champion} if entry.champion else {}
    for alias, versions in ((CHALLENGER, list(entry.challengers)), (SHADOW, list(entry.shadows))):
        if len(versions) == 1:
            aliases[alias] = versions[0]
    return aliases


def _in_a_thread(load: Callable[[], LoadedVersion]) -> Future[LoadedVersion]:
    future: Future[LoadedVersion] = Future()

    def run() -> None:
        try:
            future.set_result(load())
        except BaseException as error:  # noqa: BLE001 - told to who waits for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _stamp(path: Path) -> Stamp | None:
    """Return what changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _by_number(version: str) -> tuple[int, str]:
    return (int(version) if version.isascii() and version.isdecimal() else 0, version)
