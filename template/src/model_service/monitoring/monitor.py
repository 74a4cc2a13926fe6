"""The monitor: a process of its own that looks at every version again and again.

Nothing that it does, or fails to do, touches the service: the two meet in the prediction log.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import HTTPServer

import msgspec
from prometheus_client import CollectorRegistry, start_http_server

from model_service.hooks import Hooks
from model_service.monitoring.gauges import Gauges, Seen
from model_service.monitoring.lease import Lease, MonitorRunsError
from model_service.monitoring.look import Look
from model_service.monitoring.memory import (
    Alarm,
    Shift,
    VersionMemory,
    recall,
    recall_drill,
    remember,
)
from model_service.monitoring.watched_versions import WatchedVersion, watched_versions
from model_service.prediction_log.store import PredictionStore, open_store
from model_service.registry.registry import Registry
from model_service.repository import Repository
from model_service.settings import Settings

Tell = Callable[[str], None]
RUNS_A_LEASE_LASTS = 3
SECONDS_FOR_HOOKS = 10.0


class MonitorError(Exception):
    """The monitor cannot run; says why and what to do."""


class Drift(msgspec.Struct, frozen=True):
    """What the hook `on_drift` gets: a change that became an alarm.

    `effect` is the PSI less its noise, or the rise of a share; `limit` is what it exceeded. `since`
    is in seconds since 1970.
    """

    model: str
    version: str
    feature: str
    kind: str
    effect: float
    limit: float
    since: float


class Monitor:
    """Looks at the versions of one repository."""

    def __init__(
        self, settings: Settings, repository: Repository, hooks: Hooks, tell: Tell
    ) -> None:
        self._settings = settings
        self.repository = repository
        self._hooks = hooks
        self._tell = tell
        self._told: set[tuple[str, str, str]] = set()
        self.store = store_of(settings, repository)
        self._registry = Registry(repository.root / settings.stores.registry)
        self._lease = Lease(
            self.store, RUNS_A_LEASE_LASTS * settings.monitoring.seconds_between_runs
        )
        self.gauges = Gauges(settings.monitoring.seconds_between_runs)
        self.stopping = threading.Event()

    def run_for_ever(self, on_run: Callable[[], None] = lambda: None) -> None:
        """Look until `stopping` is set; where another monitor runs, wait until it is gone.

        Raises:
            MonitorError: the port for metrics is not free.
        """
        pause = self._settings.monitoring.seconds_between_runs
        server: HTTPServer | None = None
        try:
            while not self.stopping.is_set():
                begun = time.monotonic()
                if self._may_run():
                    server = server or self._export()
                    self.run(time.time())
                    on_run()
                self.stopping.wait(max(0.0, pause - (time.monotonic() - begun)))
        finally:
            if server is not None:
                server.shutdown()
            self.close()

    def run_once(self) -> None:
        """Look once.

        Raises:
            MonitorRunsError: another monitor watches this store.
        """
        self._lease.take()
        try:
            self.run(time.time(), is_thorough=True)
        finally:
            self.close()

    def run(self, now: float, *, is_thorough: bool = False) -> None:
        """Look at every version; one that fails costs no other. `is_thorough` puts nothing off."""
        found = list(watched_versions(self.repository, self._registry, self.store, now))
        watched = [one for one in found if isinstance(one, WatchedVersion)]
        for one in found:
            if not isinstance(one, WatchedVersion):
                model, version, error = one
                self._failed("version", f"{model} version {version}", error)
        budgets = self._budgets(watched)
        seen = [
            self._look(one, budgets[one.model], now, is_thorough=is_thorough) for one in watched
        ]
        self.gauges.drill = recall_drill(self.store)
        self.gauges.seen = seen

    def previews(self) -> dict[tuple[str, str], dict[str, Shift]]:
        """Return what the windows that are still open would show, of each version last seen."""
        found = {}
        budgets = self._budgets([one.watched for one in self.gauges.seen])
        for one in self.gauges.seen:
            if not one.watched.is_drill:
                budget = budgets[one.watched.model]
                look = self._look_at(one.watched, one.memory, time.time(), budget)
                found[one.watched.model, one.watched.version] = look.preview()
        return found

    def _budgets(self, watched: Sequence[WatchedVersion]) -> dict[str, float]:
        """Return the false alarms a month that each version of a model may raise."""
        versions = Counter(one.model for one in watched if not one.is_drill)
        budget = self._settings.monitoring.false_alarms_per_month
        return {one.model: budget / max(versions[one.model], 1) for one in watched}

    def close(self) -> None:
        """Let hooks end, and let another monitor begin."""
        self._hooks.wait(SECONDS_FOR_HOOKS)
        self._lease.give_back()
        self.store.close()

    def _look(
        self, watched: WatchedVersion, budget: float, now: float, *, is_thorough: bool
    ) -> Seen:
        memory = recall(self.store, watched.model, watched.version)
        if is_thorough:
            memory.quality_at = memory.joint_at = 0.0
        look = self._look_at(watched, memory, now, budget)
        what = f"{watched.model} version {watched.version}"
        for step in (look.traffic, look.drift, look.dependence, look.quality):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the other steps go on
                self._failed(step.__name__, what, error)
        memory.last_run = now
        try:
            remember(self.store, memory)
        except Exception as error:  # noqa: BLE001 - nothing of one version may end the monitor
            self._failed("memory", what, error)
        for alarm in look.new_alarms:
            self._announce(watched, alarm)
        return Seen(watched, memory)

    def _look_at(
        self, watched: WatchedVersion, memory: VersionMemory, now: float, budget: float
    ) -> Look:
        return Look(self.store, watched, memory, self._settings.monitoring, budget, now)

    def _announce(self, watched: WatchedVersion, alarm: Alarm) -> None:
        self._tell(
            f"{watched.model} version {watched.version}: {alarm.feature} drifts "
            f"({alarm.kind}, {alarm.effect:.3g} where {alarm.limit:.3g} may be chance)"
        )
        if not watched.is_drill:
            event = Drift(
                watched.model,
                watched.version,
                alarm.feature,
                alarm.kind,
                alarm.effect,
                alarm.limit,
                alarm.since,
            )
            self._hooks.offer("on_drift", event)

    def _failed(self, stage: str, what: str, error: Exception) -> None:
        self.gauges.errors[stage] += 1
        reason = f"{type(error).__name__}: {error}"
        if (stage, what, reason) not in self._told:  # the same one again and again is counted
            self._told.add((stage, what, reason))
            self._tell(f"{what}: {stage} failed, and is tried again: {reason}")

    def _may_run(self) -> bool:
        try:
            self._lease.take()
        except MonitorRunsError as error:
            if ("lease", "", "") not in self._told:
                self._told.add(("lease", "", ""))
                self._tell(f"Waiting. {error}")
            return False
        except Exception as error:  # noqa: BLE001 - a store that is down comes back
            self._failed("store", "the prediction log", error)
            return False
        self._told.discard(("lease", "", ""))
        return True

    def _export(self) -> HTTPServer:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self.gauges)
        host, port = self._settings.monitoring.host, self._settings.monitoring.port
        try:
            server, _ = start_http_server(port, host, registry)
        except OSError as error:
            raise MonitorError(
                f"Cannot listen on {host}:{port}: {error}. Stop what uses the port, or set "
                "monitoring.port in service.yaml (0 takes any that is free)."
            ) from None
        self._tell(f"Metrics: http://{host}:{server.server_port}/metrics")
        return server


def store_of(settings: Settings, repository: Repository) -> PredictionStore:
    """Return the prediction log.

    Raises:
        MonitorError: it is switched off.
    """
    place = settings.stores.prediction_log
    if not place:
        raise MonitorError(
            "There is no prediction log, so there is nothing to watch: set stores.prediction_log "
            "in service.yaml."
        )
    return open_store(place, repository.root)
