"""A table as a service would see it: a part to train on, and windows of the rows after it.

Each split draws other rows for training, and windows never share a row, so that a window differs
from the training rows by chance alone, as it does in a world that does not change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pandas as pd

from model_service.contract.contract import Contract, Feature, Output
from model_service.drift.binning import NO_VALUE, FeatureCounter, bins_of, codes_of, measure_of
from model_service.drift.counts import Counts
from model_service.registry.profile import (
    PROFILE_FORMAT,
    FeatureCounts,
    FeatureProfile,
    ReferenceProfile,
)

LARGEST_REFERENCE = 10_000
Cells = dict[str, Any]


def contract_of(table: pd.DataFrame) -> Contract:
    """Return a contract with a feature per column: a number, or one of these categories."""
    features = tuple(
        Feature(name=str(name), type="number")
        if column.dtype != object
        else Feature(name=str(name), type="category", categories=tuple(column.dropna().unique()))
        for name, column in table.items()
    )
    output = Output(name="none", type="number", meaning="not used here")
    return Contract(
        name="table", contract_version="1.0", description="", features=features, output=output
    )


class Split:
    """Reference and windows of one random split of a table."""

    def __init__(self, table: pd.DataFrame, chance: np.random.Generator) -> None:
        order = chance.permutation(len(table))
        cut = min(LARGEST_REFERENCE, len(table) // 2)
        self.training = table.iloc[order[:cut]]
        self.contract = contract_of(self.training)
        self.later = table.iloc[order[cut:]]
        self.known = {f.name: frozenset(f.categories) for f in self.contract.features}
        self.reference = reference_of(self.contract, self.training)

    def windows(self, size: int) -> Iterator[pd.DataFrame]:
        """Give the windows of `size` rows that share no row."""
        for start in range(0, len(self.later) - size + 1, size):
            yield self.later.iloc[start : start + size]

    def count(self, window: pd.DataFrame) -> Counts:
        """Count a window by the reference, with the same code that counts a service's rows."""
        features = {name: self.count_one(name, window[name]) for name in self.known}
        return Counts(len(window), 0, features)

    def count_one(self, name: str, column: pd.Series[Any]) -> FeatureCounts:
        """Count one column of a window."""
        return count_column(self.reference.features[name], column, self.known[name])


def reference_of(contract: Contract, training: pd.DataFrame) -> ReferenceProfile:
    """Return the profile of a table."""
    features = {}
    for feature in contract.features:
        column = training[feature.name]
        regular = column[column.notna()].tolist()
        bins = bins_of(measure_of(feature), regular)
        counts = count_column(bins, column)
        counts.unseen += bins.counts.unseen
        features[feature.name] = FeatureProfile(
            bins.measure, counts, bins.edges, bins.categories, bins.low, bins.high
        )
    nothing = FeatureProfile("none", FeatureCounts([]))
    return ReferenceProfile(PROFILE_FORMAT, len(training), features, nothing)


def count_column(
    bins: FeatureProfile, column: pd.Series, known: Collection[str] = ()
) -> FeatureCounts:
    """Count the cells of a column; missing ones and categories that are not `known` apart."""
    cells = column.tolist()
    codes = codes_of(bins, cells)
    new = np.array([bool(known) and cell is not None and cell not in known for cell in cells])
    missing = int((codes == NO_VALUE).sum())
    counts = FeatureCounter(bins).count(cells, np.flatnonzero(new).tolist())
    counts.missing = missing
    counts.unseen += int((new & (codes != NO_VALUE)).sum())
    return counts


def dependence_values(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return rows as a service accepts them, a missing value as None."""
    return list(rows.astype(object).where(rows.notna(), None).itertuples(index=False, name=None))
