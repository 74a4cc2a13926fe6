"""The reference profile: statistics of the training data that drift is measured against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract, Feature
from model_service.contract.rows import ReadRows
from model_service.files import write_atomically

PROFILE = "profile.json"
QUANTILE_BINS = 10
CATEGORIES_KEPT = 30


class FeatureProfile(msgspec.Struct, frozen=True):
    """Counts of one feature: of bins between `edges`, or of `categories` and all others.

    `counts` has an entry per bin (one more than edges), or per category with the others last.
    `missing` and `unseen` (unknown category, out of range) count the values of raw rows.
    """

    missing: int
    unseen: int
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()


class ReferenceProfile(msgspec.Struct, frozen=True):
    """The features and the output over the `rows` that were trained on."""

    rows: int
    features: dict[str, FeatureProfile]
    output: FeatureProfile


def profile_of(
    contract: Contract,
    read: ReadRows,
    columns: Mapping[str, NDArray[Any]],
    answers: Sequence[str] | NDArray[Any],
) -> ReferenceProfile:
    """Return the profile of accepted training rows and of the values answered for them."""
    problems: Counter[tuple[str, str]] = Counter(
        (warning.feature, warning.problem) for row in read.warnings.values() for warning in row
    )
    features = {
        feature.name: _feature(feature, columns[feature.name], problems)
        for feature in contract.features
    }
    if contract.output.type == "class":
        output = _of_text(np.array(answers, dtype=object))
    else:
        output = _of_numbers(np.asarray(answers, dtype=np.float64).ravel())
    return ReferenceProfile(len(read.values), features, output)


def write_profile(folder: Path, profile: ReferenceProfile) -> None:
    """Write `profile.json` into a version's folder."""
    write_atomically(folder / PROFILE, msgspec.json.encode(profile) + b"\n")


def read_profile(folder: Path) -> ReferenceProfile:
    """Read the profile of a version."""
    return msgspec.json.decode((folder / PROFILE).read_bytes(), type=ReferenceProfile)


def _feature(
    feature: Feature, column: NDArray[Any], problems: Mapping[tuple[str, str], int]
) -> FeatureProfile:
    if feature.is_text:
        profile = _of_text(column[column != ""])
    elif feature.type == "datetime":
        profile = _of_numbers(column[~np.isnat(column)].astype(np.float64) / 1e6)
    else:
        profile = _of_numbers(column.ravel())
    missing = problems.get((feature.name, "missing"), 0)
    unseen = problems.get((feature.name, "unknown_category"), 0)
    unseen += problems.get((feature.name, "out_of_range"), 0)
    return msgspec.structs.replace(profile, missing=missing, unseen=unseen)


def _of_numbers(values: NDArray[Any]) -> FeatureProfile:
    known = values[np.isfinite(values)]
    if not known.size:
        return FeatureProfile(0, 0, (0,))
    shares = np.linspace(0, 1, QUANTILE_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(known, shares))
    counts = np.bincount(np.searchsorted(edges, known), minlength=len(edges) + 1)
    return FeatureProfile(0, 0, tuple(counts.tolist()), edges=tuple(edges.tolist()))


def _of_text(values: NDArray[Any]) -> FeatureProfile:
    common = Counter(values.tolist()).most_common()
    kept = sorted(common[:CATEGORIES_KEPT])
    others = sum(count for _, count in common[CATEGORIES_KEPT:])
    counts = (*(count for _, count in kept), others)
    return FeatureProfile(0, 0, counts, categories=tuple(str(name) for name, _ in kept))
