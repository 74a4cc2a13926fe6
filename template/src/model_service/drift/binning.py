"""From the values of a feature to bins: how they are cut at training, and into which each falls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Feature
from model_service.registry.profile import FeatureCounts, FeatureProfile, Measure

QUANTILE_BINS = 10
CATEGORIES_KEPT = 30
FEW_VALUES = 12
"""Numbers of at most so many different values get a bin for each."""
NO_VALUE = -1
"""The code of a cell without a value; bins count from 0, and the code after the last is unseen,
the one after that unseen and far (see `registry.profile.FeatureCounts`)."""

Codes = NDArray[np.intp]


def measure_of(feature: Feature) -> Measure:
    """Return what of a feature is counted."""
    if feature.is_text:
        return "length" if feature.sensitive and feature.type == "string" else "text"
    if feature.type == "datetime":
        return "none"
    return "distance" if feature.type == "vector" else "number"


def bins_of(measure: Measure, cells: Sequence[Any], *, sensitive: bool = False) -> FeatureProfile:
    """Cut the regular values of training into bins; their counts are still to be filled in.

    Numbers are cut at their deciles, and a value that a tenth of the rows have gets a bin alone.
    """
    if measure == "none":
        return FeatureProfile(measure, FeatureCounts([]))
    if measure == "text":
        return _bins_of_text(cells)
    bins = FeatureProfile(measure, FeatureCounts([]))
    if measure == "distance":
        vectors = np.array([cell for cell in cells if cell is not None], dtype=np.float64)
        if len(vectors):
            scale = vectors.std(axis=0)
            # A constant element: any other value is far away, but not infinitely.
            scale = np.where(scale > 0, scale, np.maximum(np.abs(vectors[0]) * 0.1, 1e-6))
            bins = msgspec.structs.replace(
                bins, centre=tuple(vectors.mean(axis=0).tolist()), scale=tuple(scale.tolist())
            )
    numbers = _numbers(bins, cells)
    known = numbers[np.isfinite(numbers)]
    if not known.size:
        return bins
    ends = (None, None) if sensitive else (float(np.min(known)), float(np.max(known)))
    edges = tuple(_edges(known).tolist())
    # Beyond m of N ordered values falls a share of Beta(m, N + 1 - m); `rule` adds the first of m.
    alone = 0 if sensitive else max(0, sum(int((known == end).sum() == 1) for end in ends) - 1)
    return msgspec.structs.replace(
        bins, edges=edges, low=ends[0], high=ends[1], counts=FeatureCounts([], unseen=alone)
    )


def codes_of(bins: FeatureProfile, cells: Sequence[Any]) -> Codes:
    """Return for each cell its bin, `NO_VALUE`, or the number of bins if training saw none such."""
    if bins.measure == "none":
        return np.full(len(cells), NO_VALUE)
    if bins.measure == "text":
        places: dict[Any, int] = {name: place for place, name in enumerate(bins.categories)}
        places[None] = places[""] = NO_VALUE
        others = len(bins.categories)
        # Where training had no others, another category is new.
        rest = others if len(bins.counts.bins) <= others or bins.counts.bins[others] else others + 1
        return np.array([places.get(cell, rest) for cell in cells], dtype=np.intp)
    numbers = _numbers(bins, cells)
    codes = np.searchsorted(np.array(bins.edges), numbers)
    if bins.low is not None and bins.high is not None:
        beyond = np.maximum(bins.low - numbers, numbers - bins.high)
        reach = bins.high - bins.low
        codes[beyond > 0] = size_of(bins)
        codes[(beyond > reach) & (reach > 0)] = size_of(bins) + 1
    codes[np.isnan(numbers)] = NO_VALUE
    return codes


class FeatureCounter:
    """Counts the values of one feature by its bins, as `codes_of` would, but all at once."""

    def __init__(self, bins: FeatureProfile) -> None:
        self._bins = bins
        # Where training had no others, another category is new.
        self._has_others = bins.counts.bins[len(bins.categories) :] != [0]
        self._low = -np.inf if bins.low is None else bins.low
        self._high = np.inf if bins.high is None else bins.high
        self._reach = (self._high - self._low) or np.inf
        below = np.nextafter(self._low, -np.inf)
        self._ends = np.array([below, *bins.edges, self._high, np.inf])

    def count(self, cells: Sequence[Any], without: Sequence[int] = ()) -> FeatureCounts:
        """Count the cells that have a value; not those in the rows `without`."""
        if self._bins.measure == "none":
            return FeatureCounts([])
        if self._bins.measure == "text":
            return self._count_text(cells, without)
        numbers = _numbers(self._bins, cells)
        if without:
            numbers[list(without)] = np.nan
        numbers.sort()  # so that the few ends of bins are looked up, and not the many numbers
        upto = numbers.searchsorted(self._ends, "right").tolist()
        below, last, known = upto[0], upto[-2], upto[-1]
        counts = FeatureCounts([b - a for a, b in pairwise(upto[:-1])], unseen=below + known - last)
        if counts.unseen:
            beyond = (self._low - numbers[:below], numbers[last:known] - self._high)
            counts.far = sum(int((gap > self._reach).sum()) for gap in beyond)
        return counts

    def _count_text(self, cells: Sequence[Any], without: Sequence[int]) -> FeatureCounts:
        found = Counter(cells)
        found.subtract(cells[row] for row in without)
        found[None] = found[""] = 0
        bins = [found.pop(name, 0) for name in self._bins.categories]
        others = found.total()
        if self._has_others:
            return FeatureCounts([*bins, others])
        return FeatureCounts([*bins, 0], unseen=others)


def size_of(bins: FeatureProfile) -> int:
    """Return the number of bins."""
    if bins.measure == "none":
        return 0
    return len(bins.categories if bins.measure == "text" else bins.edges) + 1


def _numbers(bins: FeatureProfile, cells: Sequence[Any]) -> NDArray[np.float64]:
    if bins.measure == "length":
        return np.array([len(cell) if cell else np.nan for cell in cells], dtype=np.float64)
    if bins.measure == "distance":
        gap = [float("nan")] * len(bins.centre)
        rows = np.array([gap if cell is None else cell for cell in cells], dtype=np.float64)
        rows = rows.reshape(len(cells), len(bins.centre))
        if not rows.size:
            return np.full(len(cells), np.nan)
        distances: NDArray[np.float64] = np.square((rows - bins.centre) / bins.scale).mean(axis=1)
        return distances
    return np.fromiter(cells, np.float64, len(cells))


def _edges(known: NDArray[np.float64]) -> NDArray[np.float64]:
    values, counts = np.unique(known, return_counts=True)
    if len(values) <= FEW_VALUES:
        edges = values
    else:
        frequent = values[counts * QUANTILE_BINS >= len(known)]
        deciles = np.quantile(known, np.linspace(0, 1, QUANTILE_BINS + 1)[1:-1])
        edges = np.unique(np.concatenate([deciles, frequent, np.nextafter(frequent, -np.inf)]))
    inside: NDArray[np.float64] = edges[(edges >= values[0]) & (edges < values[-1])]
    return inside


def _bins_of_text(cells: Sequence[Any]) -> FeatureProfile:
    common = Counter(cell for cell in cells if cell).most_common()
    kept = tuple(sorted(str(name) for name, _ in common[:CATEGORIES_KEPT]))
    others = sum(count for _, count in common[CATEGORIES_KEPT:])
    alone = sum(count == 1 for _, count in common)
    counts = FeatureCounts([*[0] * len(kept), others], unseen=alone)
    return FeatureProfile("text", counts, categories=kept)
