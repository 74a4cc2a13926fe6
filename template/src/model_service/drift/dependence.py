"""Whether features still depend on each other as in training, though each looks the same alone.

A version keeps the correlations of its training rows and how sure each is: no row. Numbers enter
by the normal score of their bin and by its square, so that a dependence which first rises and then
falls shows as well; categories enter one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.contract.rows import RowValues
from model_service.drift.binning import NO_VALUE, codes_of
from model_service.files import write_atomically
from model_service.registry.profile import FeatureProfile, ReferenceProfile

DEPENDENCE = "dependence.json"
FEWEST_ROWS = 200
"""Of a day, and of training: with fewer, chance decides too many correlations."""
SMALLEST_SHARE = 0.05
CATEGORIES_KEPT = 6
LARGEST_KURTOSIS = 20
ROWS_TO_DECIDE = 25
"""Of what is rarer than some 5 % of the rows, or in fewer than these, chance decides correlations:
a share of p has a kurtosis of about 1/p."""
MATERIAL = 0.1
"""The smallest change of a correlation that may alarm."""
SMALLEST_VARIANCE = 0.02
"""Of a correlation, times rows: rows that agree by chance alone must not look certain."""


class Dependence(msgspec.Struct, frozen=True):
    """Correlations of `rows` rows, and their variances times rows, of all pairs of `columns`
    (feature, aspect) in the order of the upper triangle of their matrix."""

    rows: int
    columns: tuple[tuple[str, str], ...]
    correlations: tuple[float, ...]
    variances: tuple[float, ...]


class Broken(msgspec.Struct, frozen=True):
    """Two features whose correlation, or that of an aspect of them, `was` another in training."""

    first: str
    second: str
    was: float
    now: float
    p: float


def dependence_of(
    contract: Contract, profile: ReferenceProfile, values: Sequence[RowValues]
) -> Dependence:
    """Return how the features of accepted rows depend on each other."""
    names, scores = _scored(contract, profile, values)
    correlations, variances = _correlations(scores)
    pairs = np.triu_indices(len(names), 1)
    return Dependence(
        len(values),
        tuple(names),
        tuple(np.round(correlations[pairs], 4).tolist()),
        tuple(np.round(variances[pairs], 4).tolist()),
    )


def broken(
    contract: Contract,
    profile: ReferenceProfile,
    reference: Dependence,
    values: Sequence[RowValues],
    level: float,
) -> list[Broken]:
    """Return the pairs whose dependence changed, the clearest first; none of too few rows.

    `level` is the chance of any alarm if nothing changed (Holm over all pairs). A correlation's
    variance is taken from the fourth moments, which no distribution need be assumed for (Browne,
    British Journal of Mathematical and Statistical Psychology 37, 1984).
    """
    if len(values) < FEWEST_ROWS or reference.rows < FEWEST_ROWS:
        return []
    from scipy.special import erfc

    names, scores = _scored(contract, profile, values)
    now, spread = _correlations(scores)
    places = {column: place for place, column in enumerate(names)}
    rows, columns = np.triu_indices(len(reference.columns), 1)
    known = np.array([places.get(column, -1) for column in reference.columns], dtype=int)
    of_two = np.array([name for name, _ in reference.columns])
    kept = (known[rows] >= 0) & (known[columns] >= 0) & (of_two[rows] != of_two[columns])
    rows, columns = rows[kept], columns[kept]
    was = np.array(reference.correlations)[kept]
    current = now[known[rows], known[columns]]
    # Under no change both are of one variance: the larger one errs on the side of silence.
    variance = np.maximum(
        np.array(reference.variances)[kept], spread[known[rows], known[columns]]
    ).clip(min=SMALLEST_VARIANCE)
    error = np.sqrt(variance * (1 / len(values) + 1 / reference.rows))
    p = erfc(np.abs(current - was) / error / math.sqrt(2))
    found: list[Broken] = []
    for place, pair in enumerate(np.argsort(p, kind="stable").tolist()):
        if p[pair] > level / (len(p) - place):
            break
        if abs(current[pair] - was[pair]) >= MATERIAL:
            first, second = of_two[rows[pair]], of_two[columns[pair]]
            if all((first, second) != (each.first, each.second) for each in found):
                found.append(
                    Broken(
                        str(first),
                        str(second),
                        float(was[pair]),
                        float(current[pair]),
                        float(p[pair]),
                    )
                )
    return found


def write_dependence(folder: Path, dependence: Dependence) -> None:
    """Write `dependence.json` into a version's folder."""
    write_atomically(folder / DEPENDENCE, msgspec.json.encode(dependence) + b"\n")


def read_dependence(folder: Path) -> Dependence | None:
    """Read the dependence of a version; None of a version that has none."""
    try:
        return msgspec.json.decode((folder / DEPENDENCE).read_bytes(), type=Dependence)
    except FileNotFoundError:
        return None


def _scored(
    contract: Contract, profile: ReferenceProfile, values: Sequence[RowValues]
) -> tuple[list[tuple[str, str]], NDArray[np.float64]]:
    names: list[tuple[str, str]] = []
    scores: list[NDArray[np.float64]] = []
    cells = list(zip(*values, strict=True))
    largest = min(LARGEST_KURTOSIS, len(values) / ROWS_TO_DECIDE)
    for place, name in enumerate(contract.feature_names):
        bins = profile.features.get(name)
        if bins is None or not cells or sum(bins.counts.bins) < 1:
            continue
        shares = np.array(bins.counts.bins) / profile.rows  # what is missing has a score of 0
        for aspect, by_code in _aspects(bins):
            second, fourth = (float((shares * by_code**power).sum()) for power in (2, 4))
            if not 0 < fourth <= largest * second**2:
                continue
            names.append((name, aspect))
            codes = codes_of(bins, cells[place])
            # A value that is missing or new says nothing of the others: it stands in the middle.
            whole = np.append(by_code, [0.0, 0.0])
            scores.append(whole[np.where(codes == NO_VALUE, len(by_code), codes)])
    kept = [place for place, score in enumerate(scores) if score.std() > 0]
    if not kept:
        return [], np.empty((len(values), 0))
    return [names[place] for place in kept], np.column_stack([scores[place] for place in kept])


def _aspects(bins: FeatureProfile) -> list[tuple[str, NDArray[np.float64]]]:
    """Return what of a feature is correlated: a score for each of its bins, of mean 0."""
    from scipy.special import ndtri

    counts = np.array(bins.counts.bins, dtype=np.float64)
    shares = counts / counts.sum()
    if bins.measure == "text":
        common = [int(place) for place in np.argsort(-shares, kind="stable")[:CATEGORIES_KEPT]]
        return [
            (bins.categories[place], (np.arange(len(shares)) == place) - shares[place])
            for place in common
            if place < len(bins.categories)
            and SMALLEST_SHARE <= shares[place] <= 1 - SMALLEST_SHARE
        ]
    ranks = np.cumsum(shares) - shares / 2
    level: NDArray[Any] = ndtri(ranks.clip(1e-4, 1 - 1e-4))
    level -= (shares * level).sum()
    square = np.square(level) - (shares * np.square(level)).sum()
    return [("level", level), ("square", square)] if len(shares) > 2 else [("level", level)]


def _correlations(
    scores: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlations of columns, and their variances times rows."""
    if not scores.size:
        return np.empty((0, 0)), np.empty((0, 0))
    one = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    two = np.square(one)
    rows = len(scores)
    r = one.T @ one / rows
    both, cubed, fourth = two.T @ two / rows, (two * one).T @ one / rows, (two * two).mean(axis=0)
    variances = both - r * (cubed + cubed.T)
    variances += r * r / 4 * (fourth[:, None] + 2 * both + fourth[None, :])
    return r, np.maximum(variances, 0)


def smallest_share_broken(
    reference: Dependence, feature: str, rows: int, level: float
) -> float | None:
    """Return the smallest share of `rows` whose value of a feature may be another row's before it
    is found in nine of ten cases; more than 1 if it never is, None if the feature depends on none.
    """
    from scipy.special import ndtri

    names = np.array([name for name, _ in reference.columns])
    first, second = np.triu_indices(len(names), 1)
    mine = ((names[first] == feature) ^ (names[second] == feature)) if len(names) else first > 0
    was = np.abs(np.array(reference.correlations))[mine]
    if not (was >= MATERIAL).any():
        return None
    # Of fewer rows a day not every column is asked: that is no promise.
    if rows < LARGEST_KURTOSIS * ROWS_TO_DECIDE or reference.rows < FEWEST_ROWS:
        return math.inf
    variance = np.array(reference.variances)[mine].clip(min=SMALLEST_VARIANCE)
    error = np.sqrt(variance * (1 / rows + 1 / reference.rows))
    # The sum of both quantiles: significant over all pairs, and that in nine of ten cases.
    needed = np.maximum(MATERIAL, error * (-ndtri(level / len(first) / 2) - ndtri(0.1)))
    return float((needed[was > 0] / was[was > 0]).min())
