"""Which version answers a request that names none, where a model has challengers or shadows."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from model_service.serving.shadow import Shadow

Answering = TypeVar("Answering")


class _Envelope(msgspec.Struct):
    entity: str | None = None


_envelope = msgspec.json.Decoder(_Envelope)


class Routing(Generic[Answering]):
    """Shares the requests of one model between its champion and its challengers.

    A challenger answers its percentage of the entities: always the same ones, and when the
    percentage grows they stay and others join. Requests without an entity are shared out by chance.
    """

    __slots__ = ("_challengers", "_champion", "_model", "shadows")

    def __init__(
        self,
        model: str,
        champion: Answering,
        challengers: Sequence[tuple[float, Answering]],
        shadows: Sequence[Shadow] = (),
    ) -> None:
        self._model = model.encode()
        self._champion = champion
        self._challengers = list(challengers)
        self.shadows = shadows

    def choose(self, body: bytes) -> Answering:
        """Return what answers a request; a body that cannot be read is left to the champion."""
        if not self._challengers:
            return self._champion
        try:
            entity = _envelope.decode(body).entity
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return self._champion
        return self.choose_for(entity)

    def choose_for(self, entity: str | None) -> Answering:
        """Return what answers requests about an entity; None: by chance."""
        point = 100 * random.random() if entity is None else self.point_of(entity)  # noqa: S311
        for percent, challenger in self._challengers:
            if point < percent:
                return challenger
            point -= percent
        return self._champion

    def point_of(self, entity: str) -> float:
        """Return where an entity stands between 0 and 100; elsewhere for each model."""
        text = entity.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=8, key=self._model[:64]).digest()
        return 100 * int.from_bytes(digest) / 2**64
