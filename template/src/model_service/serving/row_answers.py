"""What a row of a request gets: an answer, or why it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from model_service.contract.rows import RowWarning
from model_service.serving.problems import RequestFault


class RowAnswer(msgspec.Struct, gc=False):
    """The answer for one row."""

    prediction_id: str
    value: Any
    probabilities: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    warnings: Sequence[RowWarning] = ()


class RowProblem(msgspec.Struct):
    """Why one row has no answer."""

    type: str
    title: str
    faults: Sequence[RequestFault]


class RowRefused(msgspec.Struct):
    """A row without an answer, among others that may have one."""

    error: RowProblem
