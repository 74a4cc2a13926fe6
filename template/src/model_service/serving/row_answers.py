"""What a row of a request gets: an answer, or why it has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from model_service.contract.rows import RowWarning
from model_service.serving.problems import RequestFault

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


def in_order(shares: Shares) -> Sequence[float]:
    """Return probabilities in the order of the classes."""
    if isinstance(shares, msgspec.Struct):
        return msgspec.structs.astuple(shares)
    return tuple(shares.values())


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
