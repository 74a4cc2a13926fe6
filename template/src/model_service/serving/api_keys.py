"""API keys: who may ask, by the digests that `service.yaml` holds.

A key is long and random, so its digest gives nothing away and may be committed and reviewed. During
a rotation a caller has two entries, such as `web` and `web-2027`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_service.serving.metrics import Metrics

OPEN_PATHS = frozenset(
    {
        *("/", "/docs", "/openapi.json", "/metrics"),
        *("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"),
    }
)
"""What needs no key: documentation, and what orchestrators and Prometheus ask."""
DIGEST_PREFIX = "sha256:"
_BEARER = b"bearer "


def new_key() -> str:
    """Return a key of 256 random bits."""
    return secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return what `service.yaml` holds of a key."""
    return DIGEST_PREFIX + hashlib.sha256(key.encode()).hexdigest()


class ApiKeys:
    """The callers of a service. Each request is counted by the caller's name, or as refused."""

    def __init__(self, digests: Mapping[str, str], metrics: Metrics) -> None:
        self._digests = {
            name: bytes.fromhex(digest.removeprefix(DIGEST_PREFIX))
            for name, digest in digests.items()
        }
        if digests:
            self._requests = {name: metrics.counter("key_requests", name) for name in digests}
            self._refused = metrics.counter("key_refused_requests")

    def may_ask(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return whether a request may be answered; count it under its caller, or as refused."""
        if path in OPEN_PATHS or self.admits(headers):
            return True
        self._refused[0] += 1
        return False

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return whether a request has a key where one is needed, and count it if it has."""
        if not self._digests:
            return True
        caller = self._caller(headers)
        if caller is None:
            return False
        self._requests[caller][0] += 1
        return True

    def _caller(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        given = hashlib.sha256(_key_of(headers)).digest()
        caller = None
        # Every digest is compared, in constant time: how long it takes tells nothing.
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                caller = name
        return caller


def _key_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
    return b""
