"""The fire drill: drifted rows go through every real part, and an alarm must come out.

The service answers them as a version of their own (`3-drill`), so that nothing of them counts as
traffic of version 3; Alertmanager lets nobody wake for it.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from itertools import cycle, islice
from typing import Any

import msgspec

from model_service.monitoring.memory import (
    Drill,
    VersionMemory,
    recall,
    recall_drill,
    remember,
    remember_drill,
)
from model_service.monitoring.watched_versions import WatchedVersion, watched_versions
from model_service.prediction_log.store import PredictionStore
from model_service.registry.golden import GOLDEN, read_golden
from model_service.registry.manifest import DRILL
from model_service.registry.profile import FeatureProfile
from model_service.registry.registry import Registry
from model_service.repository import Repository
from model_service.settings import Settings

ROWS = 600
FEWEST_RECENT_ROWS = 100
SECONDS_A_DAY = 86_400.0
SECONDS_BETWEEN_LOOKS = 0.5


class DrillError(Exception):
    """The drill cannot be held; says why and what to do."""


class Link(msgspec.Struct, frozen=True):
    """One link of the chain: how many seconds after the start the alarm was there; None if never.

    `is_tested` is False where service.yaml names no such part.
    """

    name: str
    seconds: float | None
    is_tested: bool = True


class FireDrill:
    """One drill with one model. `seconds` is how long all of it may take."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        store: PredictionStore,
        *,
        seconds: float,
        key: str | None = None,
        model: str | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._key = key
        self._watched = _champion(settings, repository, store, model)
        self.feature, self._value = _frozen(self._watched)
        self.version = f"{self._watched.version}{DRILL}"
        self.model = self._watched.model
        self._started = time.time()
        self._deadline = time.monotonic() + seconds

    def hold(self, tell: Callable[[Link], None]) -> bool:
        """Hold it; `tell` hears of each link. Return whether the alarm came through all of them."""
        last = recall_drill(self._store) or Drill()
        self._forget_the_last_one()
        self._started = time.time()
        remember_drill(self._store, Drill(self._started, last.alarmed_at))
        self._send()
        tell(Link("service", time.time() - self._started))
        for name, is_tested, is_there in (
            ("prediction log", True, self._is_logged),
            ("monitor", True, self._is_seen),
            ("Prometheus", bool(self._settings.monitoring.prometheus), self._fires),
            ("Alertmanager", bool(self._settings.monitoring.alertmanager), self._is_routed),
        ):
            link = Link(name, self._wait(is_there), True) if is_tested else Link(name, None, False)
            tell(link)
            if is_tested and link.seconds is None:
                return False
        remember_drill(self._store, Drill(self._started, time.time()))
        return True

    def _forget_the_last_one(self) -> None:
        cursor = self._started // 60 * 60
        remember(self._store, VersionMemory(self.model, self.version, cursor=cursor))
        self._wait(lambda: not self._settings.monitoring.prometheus or not self._alerts())

    def _send(self) -> None:
        rows = [row | {self.feature: self._value} for row in self._rows()]
        server = self._settings.server
        host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104
        url = f"http://{host}:{server.port}/v1/models/{self.model}/versions/drill/predict"
        size = min(self._settings.limits.rows_per_request, 200)
        for start in range(0, len(rows), size):
            body = msgspec.json.encode({"rows": rows[start : start + size]})
            try:
                _asked(url, body, self._key)
            except OSError as error:
                raise DrillError(
                    f"The service does not answer at {url}: {error}. Start it (`serve`), set "
                    "server.host and server.port, or give a key (--key)."
                ) from None

    def _rows(self) -> list[dict[str, Any]]:
        """Return recent rows; golden ones where too few were logged with their features."""
        watched, now = self._watched, time.time()
        recent = self._store.rows(
            watched.model, watched.version, now - 7 * SECONDS_A_DAY, now, limit=ROWS
        )
        names = set(watched.contract.feature_names)
        rows = [row.used for row in recent if row.used is not None and set(row.used) == names]
        sensitive = any(feature.sensitive for feature in watched.contract.features)
        if len(rows) < FEWEST_RECENT_ROWS or sensitive:
            golden = read_golden((watched.folder / GOLDEN).read_bytes())
            rows = [one.row for one in golden]
        return list(islice(cycle(rows), ROWS))

    def _wait(self, is_there: Callable[[], bool]) -> float | None:
        while time.monotonic() < self._deadline:
            try:
                if is_there():
                    return time.time() - self._started
            except (OSError, ValueError, KeyError):
                pass  # a part that does not answer is a chain that is broken there
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return None

    def _is_logged(self) -> bool:
        last = self._store.last_seen(self.model, self.version)
        return last is not None and last >= self._started

    def _is_seen(self) -> bool:
        memory = recall(self._store, self.model, self.version)
        return any(alarm.feature == self.feature for alarm in memory.open_alarms)

    def _fires(self) -> bool:
        return any(
            alert["state"] == "firing" and _seconds(alert["activeAt"]) >= self._started
            for alert in self._alerts()
        )

    def _alerts(self) -> list[dict[str, Any]]:
        url = self._settings.monitoring.prometheus.rstrip("/")
        found = _asked(f"{url}/api/v1/alerts")["data"]["alerts"]
        return [alert for alert in found if self._is_ours(alert["labels"])]

    def _is_routed(self) -> bool:
        url = self._settings.monitoring.alertmanager.rstrip("/")
        return any(
            self._is_ours(alert["labels"]) and _seconds(alert["startsAt"]) >= self._started - 1
            for alert in _asked(f"{url}/api/v2/alerts")
        )

    def _is_ours(self, labels: dict[str, str]) -> bool:
        named = (labels.get("model"), labels.get("version"), labels.get("feature"))
        return named == (self.model, self.version, self.feature)


def _champion(
    settings: Settings, repository: Repository, store: PredictionStore, model: str | None
) -> WatchedVersion:
    registry = Registry(repository.root / settings.stores.registry)
    for one in watched_versions(repository, registry, store, time.time()):
        if isinstance(one, WatchedVersion) and one.is_asked and model in (None, one.model):
            return one
    named = f"{model} has no champion" if model else "No model has a champion"
    raise DrillError(f"{named}: train one, and serve it.")


def _frozen(watched: WatchedVersion) -> tuple[str, Any]:
    """Return the feature that the drill freezes, and at which value: one that is rare in training,
    and that the contract accepts."""
    profiles = watched.profile.features if watched.profile else {}
    features = {feature.name: feature for feature in watched.contract.features}
    names = dict.fromkeys([*watched.settings.important_features, *features])
    for name in names:
        profile = profiles.get(name)
        if profile is None or sum(profile.counts.bins) == 0 or name not in features:
            continue
        if profile.measure == "number" and profile.edges and features[name].type != "boolean":
            value = profile.edges[0]
            return name, int(value) if features[name].type == "integer" else value
        if profile.measure == "text" and len(profile.categories) > 1:
            return name, _rarest(profile)
    raise DrillError(
        f"{watched.model} version {watched.version} has no number or category whose drift a drill "
        "could show. Name another model with --model."
    )


def _rarest(profile: FeatureProfile) -> str:
    return min(zip(profile.counts.bins, profile.categories, strict=False))[1]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment[:19] + "+00:00").timestamp() + 1


def _asked(url: str, body: bytes | None = None, key: str | None = None) -> Any:
    if not url.startswith(("http://", "https://")):
        raise DrillError(f"{url} is no address of HTTP.")
    headers = {"content-type": "application/json"} | (
        {"authorization": f"Bearer {key}"} if key else {}
    )
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - HTTP, as checked above
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)
