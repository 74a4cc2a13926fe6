"""Of all monitors of one store, one works; the others wait until it is gone."""

from __future__ import annotations

import os
import socket
import time
from typing import TypeGuard

import msgspec

from model_service.prediction_log.store import PredictionStore

_NAME = "monitor/lease"
FEWEST_SECONDS = 120.0


class MonitorRunsError(Exception):
    """Another monitor watches this store; says which."""


class _Lease(msgspec.Struct):
    host: str
    process: int
    until: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Lease).decode


class Lease:
    """The right to watch a store; it ends by itself when it is not renewed."""

    def __init__(self, store: PredictionStore, seconds: float) -> None:
        self._store = store
        self._seconds = max(seconds, FEWEST_SECONDS)
        self._mine: bytes | None = None

    def take(self) -> None:
        """Take it, or renew it.

        Raises:
            MonitorRunsError: another monitor has it.
        """
        before = self._store.get_state(_NAME)
        if before != self._mine and _holds(before):
            held = _decode(before)
            raise MonitorRunsError(
                f"Another monitor watches this prediction log: process {held.process} on "
                f"{held.host}. Stop it first, or look at what it sees with `monitor --watch`."
            )
        lease = _Lease(socket.gethostname(), os.getpid(), time.time() + self._seconds)
        if not self._store.swap_state(_NAME, before, _encode(lease)):
            raise MonitorRunsError("Another monitor began to watch this prediction log just now.")
        self._mine = _encode(lease)

    def give_back(self) -> None:
        """Let another monitor begin at once."""
        if self._mine is not None:
            ended = _encode(_Lease(socket.gethostname(), os.getpid(), 0.0))
            self._store.swap_state(_NAME, self._mine, ended)
            self._mine = None


def is_watched(store: PredictionStore) -> bool:
    """Return whether a monitor of another process watches a store now."""
    return _holds(store.get_state(_NAME))


def _holds(lease: bytes | None) -> TypeGuard[bytes]:
    held = None if lease is None else _decode(lease)
    return held is not None and time.time() < held.until and not _is_dead(held)


def _is_dead(lease: _Lease) -> bool:
    if lease.host != socket.gethostname():
        return False
    try:
        os.kill(lease.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return lease.process == os.getpid()
