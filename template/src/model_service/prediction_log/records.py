"""What the prediction log holds."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TruthResult = Literal["matched", "repeated", "corrected", "unknown"]
"""What became of a ground truth: it belongs to a known prediction (for the first time, again, or
with another value than before), or the prediction is not known yet and the truth waits for it."""


class LoggedRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answered row. `at` is in seconds since 1970, `seconds` how long the request took.

    `received` holds the features as the caller sent them, `used` as the model got them after the
    policies; both are None, or lack features, where the settings do not store them. A feature that
    is sensitive is a salted hash. `warnings` are (feature, problem, action). `entity` and `key`
    (the features that identify the row for ground truth) are salted hashes. `alias` is None where
    the caller asked for a version by its number. `shadow_of` is the prediction that the caller got,
    where this one is a shadow's.
    """

    prediction_id: str
    request_id: str
    at: float
    model: str
    version: str
    alias: str | None = None
    entity: str | None = None
    received: dict[str, Any] | None = None
    used: dict[str, Any] | None = None
    warnings: tuple[tuple[str, str, str], ...] = ()
    value: Any
    probabilities: dict[str, float] | None = None
    seconds: float
    key: str | None = None
    shadow_of: str | None = None


class LoggedCounts(msgspec.Struct, frozen=True, gc=False):
    """What one worker counted in one minute: an encoded `drift.counts.Counts`.

    `window_start` is the minute in seconds since 1970. A worker writes its counts of a minute again
    as they grow: the later ones replace the earlier. Those of several workers are merged by whoever
    reads them.
    """

    model: str
    version: str
    window_start: int
    worker: str
    counts: bytes


class GroundTruth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What really happened, told by `prediction_id`, or by `model` and `key`.

    `key` is the salted hash that `LoggedRow.key` holds as well; the truth belongs to the last
    prediction with it that was made not after `at`. Times are in seconds since 1970.
    """

    value: Any
    at: float
    received_at: float
    prediction_id: str | None = None
    model: str | None = None
    key: str | None = None


class GroundTruthOutcome(msgspec.Struct, frozen=True):
    """What became of ground truths, in the order in which they were given."""

    results: tuple[TruthResult, ...]

    def count(self, result: TruthResult) -> int:
        """Return how many truths had this result."""
        return self.results.count(result)


class Activity(msgspec.Struct, frozen=True):
    """How many rows a version answered, and when the first and the last of them."""

    model: str
    version: str
    rows: int
    first: float
    last: float
