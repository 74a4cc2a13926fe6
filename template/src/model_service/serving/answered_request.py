"""An answered request, as the event loop hands it on, and its rows in the prediction log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from model_service.contract.rows import ReadRows, RowValues
from model_service.prediction_log.database import PredictionColumns
from model_service.prediction_log.stored_features import StoredFeatures, json_texts
from model_service.registry.loaded_version import LoadedVersion
from model_service.serving.row_answers import RowAnswer, RowRefused

BYTES_A_FAULT = 300
ROWS_AT_ONCE = 250
"""Are put into words by one call, during which the event loop cannot go on."""
_Texts = tuple[str | None, str, str | None, str | None]
"""Of a row: what is kept of its features, its value, its probabilities and its key."""


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


def stored_rows(
    requests: Sequence[AnsweredRequest], stored: StoredFeatures
) -> list[PredictionColumns]:
    """Return what is kept of each row that has an answer. All requests are of one version."""
    places: list[tuple[AnsweredRequest, int]] = []
    values: list[RowValues] = []
    answers: list[RowAnswer] = []
    for request in requests:
        if not request.rows:
            continue
        for position, row in zip(request.read.positions, request.read.values, strict=True):
            answer = request.rows[position]
            if isinstance(answer, RowAnswer):
                places.append((request, position))
                values.append(row)
                answers.append(answer)
    texts: list[_Texts] = []
    for first in range(0, len(answers), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        told = json_texts([answer.value for answer in answers[part]])
        shares, keys = _probabilities(answers[part]), stored.keys(values[part])
        texts += zip(stored.used(values[part]), told, shares, keys, strict=True)
    return list(_rows(zip(places, answers, texts, strict=True), stored))


def _probabilities(answers: Sequence[RowAnswer]) -> Sequence[str | None]:
    """Return the probabilities as JSON; all answers of a version have them, or none has."""
    if not answers or answers[0].probabilities is msgspec.UNSET:
        return [None] * len(answers)
    return json_texts([answer.probabilities for answer in answers])


def _rows(
    kept: Iterable[tuple[tuple[AnsweredRequest, int], RowAnswer, _Texts]], stored: StoredFeatures
) -> Iterator[PredictionColumns]:
    before: AnsweredRequest | None = None
    for (request, position), answer, (used, value, probabilities, key) in kept:
        if request is not before:  # the same for all of its rows
            before, loaded, shadow_of = request, request.loaded, request.shadow_of
            entity = stored.pseudonyms.of(request.entity)
            sent = _sent(request) if request.read.warnings else {}
        received = stored.received(sent[position]) if position in sent else None
        yield (  # in the order of PREDICTION_COLUMNS
            answer.prediction_id,
            request.request_id,
            request.at,
            loaded.model,
            loaded.version,
            request.alias,
            entity,
            None if received == used else received,  # what no policy touched, once
            used,
            stored.warnings(answer.warnings) if answer.warnings else None,
            value,
            probabilities,
            request.seconds,
            key,
            (shadow_of and shadow_of[position]) or answer.prediction_id,
        )


def _sent(request: AnsweredRequest) -> dict[int, object]:
    """Return the rows that a policy touched, as they were sent."""
    if isinstance(request.sent, bytes):
        return request.loaded.reader.rows_as_sent(request.sent, request.read.warnings)
    return {position: request.sent[position] for position in request.read.warnings}
