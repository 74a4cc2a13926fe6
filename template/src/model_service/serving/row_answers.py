"""What a row of a request gets: an answer with an id of its own, or why it has none."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.rows import RowValues, RowWarning
from model_service.registry.loaded_version import LoadedVersion
from model_service.serving.problems import RequestFault

_ENDS = [f"-{number:x}" for number in range(1024)]
"""Of the ids that share a number."""
Shares = msgspec.Struct | dict[str, float]
"""The probabilities of one row by class: the same JSON object, whichever it is."""


def shares_of(classes: Sequence[str]) -> Callable[..., Shares]:
    """Return what makes `Shares` of the probabilities of a row, given in the order of `classes`.

    A struct is made and encoded in a third of the time of a dict, which was a quarter of a request
    of many rows. It carries no name with a quote, a backslash or a control character.
    """
    fields = [
        (f"p{place}", float, msgspec.field(name=name, default=0.0))
        for place, name in enumerate(classes)
    ]
    try:
        return msgspec.defstruct("Shares", fields, gc=False)
    except ValueError:
        return lambda *shares: dict(zip(classes, shares, strict=False))


def in_order(shares: Sequence[Shares]) -> NDArray[np.float64]:
    """Return the probabilities of rows, of shape (rows, classes) in the order of the classes; all
    rows are answers of one version."""
    if not shares:
        return np.empty((0, 0))
    values: Callable[[Any], Iterable[float]] = dict.values
    if isinstance(shares[0], msgspec.Struct):
        values = msgspec.structs.astuple
    flat = np.fromiter(itertools.chain.from_iterable(map(values, shares)), np.float64)
    return flat.reshape(len(shares), -1)


class RowAnswer(msgspec.Struct, gc=False):
    """The answer for one row."""

    prediction_id: str
    value: Any
    probabilities: Shares | msgspec.UnsetType = msgspec.UNSET
    warnings: Sequence[RowWarning] = ()


class RowProblem(msgspec.Struct):
    """Why one row has no answer."""

    type: str
    title: str
    faults: Sequence[RequestFault]


class RowRefused(msgspec.Struct):
    """A row without an answer, among others that may have one."""

    error: RowProblem


class Identifiers:
    """Makes ids of a random prefix and a counter. Threads may share it."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def next(self) -> str:
        """Return an id that was never returned before."""
        return f"{self._prefix}-{next(self._count):x}"

    def take(self, count: int) -> list[str]:
        """Return so many ids that were never returned before.

        They share one number of the counter and have an end each, which is made only once: less
        than half of the time of ids made one by one.
        """
        ids: list[str] = []
        for first in range(0, count, len(_ENDS)):
            ids += map(self.next().__add__, _ENDS[: count - first])
        return ids


class AnsweringVersion:
    """Lets a version answer accepted rows, each with an id of its own."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self._predict = loaded.predict
        self._shares = shares_of(loaded.contract.output.classes)
        self._identifiers = Identifiers()

    def answer(self, rows: Sequence[RowValues]) -> list[RowAnswer]:
        """Return the answers in the order of the rows; as many as the model gave.

        Raises:
            ModelError: the version has no usable answer for these rows.
        """
        predicted = self._predict(rows)
        ids, probabilities = self._identifiers.take(len(predicted.values)), predicted.probabilities
        if probabilities is None:
            return list(map(RowAnswer, ids, predicted.values))
        # By class: a list for each row would cost as much as all the rest of this.
        shares = map(self._shares, *probabilities.T.tolist())
        return list(map(RowAnswer, ids, predicted.values, shares))
