"""One request for the prediction log, as the event loop hands it on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from model_service.contract.rows import ReadRows
from model_service.registry.loaded_version import LoadedVersion
from model_service.serving.row_answers import RowAnswer, RowRefused

BYTES_A_FAULT = 300


class AnsweredRequest(msgspec.Struct, gc=False):
    """A request whose rows were read, and what became of them.

    `sent` is its body, which had `body_bytes`, or its rows where they came otherwise; it is needed
    only where a policy touched a row. `rows` stand in the order of the request, or there are none
    where no row has an answer. `shadow_of` names for each the prediction that the caller got, where
    these answers are a shadow's.
    """

    loaded: LoadedVersion
    alias: str | None
    request_id: str
    entity: str | None
    sent: bytes | Sequence[object]
    read: ReadRows
    rows: Sequence[RowAnswer | RowRefused | None]
    at: float
    seconds: float
    shadow_of: Sequence[str | None] | None = None
    body_bytes: int = 0

    @property
    def size(self) -> int:
        """About how many bytes wait with it."""
        size = self.body_bytes or len(self.sent)
        if self.read.faults:
            size += BYTES_A_FAULT * sum(len(found) for found in self.read.faults.values())
        return size
