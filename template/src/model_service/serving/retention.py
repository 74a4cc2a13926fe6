"""Deletes what is too old or too much from the prediction log, every hour, in its own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from model_service.model_settings import ModelSettingsError, read_model_settings
from model_service.prediction_log.store import PredictionStore, StoreError, open_store
from model_service.repository import Repository
from model_service.settings import Settings

SECONDS_BETWEEN_LOOKS = 60.0
SECONDS_BETWEEN_PURGES = 3600.0
SECONDS_A_DAY = 86_400
LAST_PURGE = "last purge"


class Retention:
    """Keeps the prediction log at `place` within its limits; `tell` takes a sentence for the log.

    Of several workers and machines one purges: whoever finds that an hour has gone by.
    """

    def __init__(
        self, settings: Settings, repository: Repository, place: str, tell: Callable[[str], None]
    ) -> None:
        self._settings = settings.prediction_log
        self._repository = repository
        self._place = place
        self._tell = tell
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to look at the log."""
        if self._place:
            threading.Thread(target=self._loop, name="retention", daemon=True).start()

    def stop(self) -> None:
        """Purge no more."""
        self._stopping.set()

    def _loop(self) -> None:
        # A connection of its own: what is written goes on meanwhile.
        store = open_store(self._place, self._repository.root)
        while True:
            try:
                self._purge_if_due(store, time.time())
            except StoreError:
                pass  # whoever writes the log says why it cannot be reached
            except Exception as error:  # noqa: BLE001 - the next hour may be a better one
                self._tell(f"the prediction log could not be purged: {type(error).__name__}")
            if self._stopping.wait(SECONDS_BETWEEN_LOOKS):
                store.close()
                return

    def _purge_if_due(self, store: PredictionStore, now: float) -> None:
        last = float(store.get_state(LAST_PURGE) or 0)
        if now - last < SECONDS_BETWEEN_PURGES:
            return
        store.set_state(LAST_PURGE, str(now).encode())
        before = now - self._settings.retention_days * SECONDS_A_DAY
        answers_before = {}
        for model in store.models():
            try:
                plan = read_model_settings(self._repository, model).ground_truth
            except ModelSettingsError as error:
                # Nobody knows how late truth may come, so no answer is deleted for its age.
                self._tell(str(error))
                answers_before[model] = 0.0
                continue
            if plan.expected:
                answers_before[model] = now - plan.within_days * SECONDS_A_DAY
        store.purge(before, self._settings.retention_megabytes, answers_before)
