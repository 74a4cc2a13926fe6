"""The rows of golden predictions: held-out ones, and dirty ones for each policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from model_service.contract.contract import Contract, Feature
from model_service.contract.rows import RowReader

CLEAN_ROWS = 60
MOST_ROWS = 100
NEW_CATEGORY = "a category that nobody has seen"


def golden_rows(
    contract: Contract, reader: RowReader, held_out: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return up to 100 raw rows that the contract accepts, at least one for each policy."""
    kept = list(held_out[:CLEAN_ROWS])
    for feature in contract.features:
        kept += [{**held_out[0], feature.name: value} for value in _dirty_values(feature)]
    kept += held_out[CLEAN_ROWS:MOST_ROWS]
    read = reader.read_rows(kept)
    return [kept[position] for position in read.positions][:MOST_ROWS]


def _dirty_values(feature: Feature) -> Iterator[Any]:
    if feature.on_missing.action != "reject":
        yield None
    if feature.type == "category" and feature.on_unknown.action != "reject":
        yield NEW_CATEGORY
    if feature.on_out_of_range.action == "reject" or feature.type == "datetime":
        return
    for bound, sign in ((feature.minimum, -1), (feature.maximum, 1)):
        if isinstance(bound, int | float):
            value = bound + sign * max(1, abs(bound))
            yield [value] * (feature.length or 0) if feature.type == "vector" else value
