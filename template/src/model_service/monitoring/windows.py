"""Cuts the counts of a version into windows that are large enough to judge."""

from __future__ import annotations

import msgspec

from model_service.drift.counts import Counts, merge
from model_service.monitoring.memory import VersionMemory
from model_service.prediction_log.store import PredictionStore
from model_service.registry.profile import FeatureCounts
from model_service.settings import Monitoring

MINUTE = 60
LONGEST_SECONDS = 86_400.0


def pending_counts(store: PredictionStore, memory: VersionMemory, now: float) -> Counts:
    """Return what was counted since the last window was closed, late rows included.

    The counts of the last minutes grow while workers write; what a closed window took of them is
    subtracted, so that each row belongs to exactly one window.
    """
    if not memory.cursor:
        memory.cursor = (now - LONGEST_SECONDS) // MINUTE * MINUTE
    found = list(store.counts(memory.model, memory.version, memory.cursor, now + MINUTE))
    counts = merge(Counts.decode(one.counts) for one in found)
    if memory.consumed is not None:
        counts = _without(counts, Counts.decode(memory.consumed))
    if memory.open_since is None and counts.rows:
        memory.open_since = float(found[0].window_start)
    memory.open_rows = counts.rows
    return counts


def is_full(memory: VersionMemory, counts: Counts, now: float, settings: Monitoring) -> bool:
    """Return whether a window may be closed: it has enough rows and time, or a day has passed."""
    if memory.open_since is None or not counts.rows:
        return False
    age = now - memory.open_since
    enough = counts.rows >= settings.window_rows and age >= settings.window_seconds
    return enough or age >= LONGEST_SECONDS


def close_window(
    store: PredictionStore, memory: VersionMemory, counts: Counts, now: float
) -> tuple[float, float]:
    """Let the next window begin now; return when this one began and ended.

    Rows of the last two minutes may still be counted: those minutes are read again.
    """
    begun = memory.open_since or now
    memory.open_since = now
    memory.open_rows = 0
    before = Counts.decode(memory.consumed) if memory.consumed is not None else Counts()
    cursor = now // MINUTE * MINUTE - MINUTE
    # What lies before the new cursor is never read again, so that it need not be subtracted.
    older = merge(
        Counts.decode(one.counts)
        for one in store.counts(memory.model, memory.version, memory.cursor, cursor)
    )
    memory.consumed = _without(merge([before, counts]), older).encode()
    memory.cursor = cursor
    return begun, now


def _without(whole: Counts, part: Counts) -> Counts:
    negative = msgspec.structs.replace(
        part,
        rows=-part.rows,
        refused=-part.refused,
        features={name: _negated(counts) for name, counts in part.features.items()},
        blocks={block: -rows for block, rows in part.blocks.items()},
    )
    return merge([whole, negative])


def _negated(counts: FeatureCounts) -> FeatureCounts:
    bins = [-rows for rows in counts.bins]
    apart = (counts.missing, counts.unseen, counts.out_of_range, counts.far)
    return FeatureCounts(bins, *(-rows for rows in apart))
