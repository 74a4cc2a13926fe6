"""`POST /v1/ground-truth`: what really happened, told days or months after the answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from model_service.contract.contract import Contract
from model_service.contract.openapi_ground_truth import RESULTS
from model_service.hooks import Hooks
from model_service.model_settings import ModelSettingsError, read_model_settings
from model_service.prediction_log.ground_truth import KeptTruth, TruthReader, keep
from model_service.prediction_log.pseudonyms import Pseudonyms, read_pseudonyms
from model_service.prediction_log.store import StoreError, open_store
from model_service.repository import Repository
from model_service.serving.problems import ProblemError, RequestFault
from model_service.serving.request_body import read_body, read_head
from model_service.settings import Settings

MOST_WAITING = 20
"""Requests of ground truth at once; more are told to come again."""
_RETRY = ((b"retry-after", b"5"),)


class GroundTruthEndpoint:
    """Keeps ground truth in the prediction log at `place`, which may be empty.

    `contracts` returns those of the models that answer.
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        place: str,
        contracts: Callable[[], list[Contract]],
        hooks: Hooks,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._place = place
        self._contracts = contracts
        self._on_kept = partial(hooks.offer, "on_ground_truth")
        self._store = open_store(place, repository.root) if place else None
        self._thread = ThreadPoolExecutor(1, "ground truth")
        self._waiting = 0
        self._made_for: list[Contract] = []
        self._reader = TruthReader({}, {}, Pseudonyms(None))

    async def __call__(self, request: Request) -> Response:
        """Keep the entries of a request and say of each what became of it."""
        limits = self._settings.limits
        head = read_head(request.scope["headers"])
        body = await read_body(request.receive, head, limits.body_bytes, limits.seconds_per_request)
        kept = await self._kept(_entries(body, limits.rows_per_request))
        counted: Counter[str] = Counter(one.result for one in kept)
        if counted["refused"] == len(kept):
            faults = [
                RequestFault(f"/ground_truth/{row}", "refused", one.message)
                for row, one in enumerate(kept)
            ]
            raise ProblemError("rows-rejected", "No entry can be kept.", faults=faults)
        answer = {**{result: counted[result] for result in RESULTS}, "ground_truth": kept}
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def _kept(self, entries: list[object]) -> list[KeptTruth]:
        """Keep entries in a thread of their own: a slow log must not hold up what others do."""
        if self._waiting >= MOST_WAITING:
            detail = "Too much ground truth waits for the prediction log. Send it again."
            raise ProblemError("log-unavailable", detail, headers=_RETRY)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._keep, entries)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Close the prediction log."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()

    def _keep(self, entries: list[object]) -> list[KeptTruth]:
        if self._store is None:
            raise ProblemError(
                "log-unavailable", "This service keeps no prediction log: stores.prediction_log."
            )
        try:
            return keep(self._store, self._reader_now(), entries, time.time(), self._on_kept)
        except StoreError:
            detail = (
                "The prediction log cannot be reached. Send all of it again: nothing counts twice."
            )
            raise ProblemError("log-unavailable", detail, headers=_RETRY) from None

    def _reader_now(self) -> TruthReader:
        """Return the reader of the models that answer now; it is made once for the same ones."""
        contracts = self._contracts()
        if self._made_for != contracts:
            keys = {one.name: self._key_of(one.name) for one in contracts}
            salt = self._settings.prediction_log.salt
            pseudonyms = read_pseudonyms(salt, self._place, self._repository.root)
            self._reader = TruthReader({one.name: one for one in contracts}, keys, pseudonyms)
            self._made_for = contracts
        return self._reader

    def _key_of(self, model: str) -> tuple[str, ...]:
        try:
            return read_model_settings(self._repository, model).ground_truth.key
        except ModelSettingsError:  # the recorder says so; truth by prediction id needs no key
            return ()


def _entries(body: bytes, most: int) -> list[object]:
    try:
        stated = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ProblemError("invalid-json", "The body is not JSON.") from None
    entries = stated.get("ground_truth") if isinstance(stated, dict) and len(stated) == 1 else None
    if not isinstance(entries, list) or not entries:
        raise ProblemError(
            "invalid-request", 'Send {"ground_truth": [{"prediction_id": "…", "value": …}, …]}.'
        )
    if len(entries) > most:
        raise ProblemError("too-many-rows", f"At most {most} entries are kept at once.")
    return entries
