"""Makes the reference profile of a version from the rows that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract, Feature
from model_service.contract.rows import ReadRows, RowValues
from model_service.drift.binning import bins_of, measure_of
from model_service.drift.counts import Answered, Counter, Counts, Problems, block_of, scores_of
from model_service.registry.profile import (
    PROFILE_FORMAT,
    FeatureCounts,
    FeatureProfile,
    ReferenceProfile,
    TimeBlocks,
    output_names,
)

ROWS_OF_A_BLOCK = 300
"""Blocks of time are made as short as leaves the median block so many rows of training."""


class Times(msgspec.Struct, frozen=True):
    """When the rows of training happened: seconds since 1970 (UTC), NaN where nobody knows;
    `feature` is the feature that says so, if one does."""

    seconds: NDArray[np.float64]
    feature: str | None = None


class Answers(msgspec.Struct):
    """Answers without any row."""

    values: Sequence[Any] = ()
    probabilities: Any = None


def problems_of(read: ReadRows) -> list[Problems]:
    """Return the warnings of each accepted row as they are logged."""
    return [
        [(warning.feature, warning.problem) for warning in read.warnings.get(position, ())]
        for position in read.positions
    ]


def profile_of(
    contract: Contract, read: ReadRows, answers: Answered, times: Times | None = None
) -> ReferenceProfile:
    """Return the profile of accepted training rows and of answers to rows held out of training.

    A model answers the rows that it was fitted on with more certainty than any others.
    """
    problems = problems_of(read)
    time = _blocks(times)
    features = {
        feature.name: _bins(feature, place, read.values, problems)
        for place, feature in enumerate(contract.features)
    }
    cut = ReferenceProfile(
        PROFILE_FORMAT, len(read.values), features, _output_bins(contract, answers), time=time
    )
    if answers.probabilities is not None:
        scores = scores_of(answers.probabilities).tolist()
        cut = msgspec.structs.replace(cut, score=_of_scores(scores))
    counter = Counter(contract, cut)
    whole = counter.count(read.values, problems, Answers())
    by_block = _by_block(counter, read.values, problems, times, time)
    output = counter.count((), (), answers).features
    prediction, score = output_names(contract)
    return msgspec.structs.replace(
        cut,
        features={
            name: _filled(bins, whole.features[name], [each.features[name] for each in by_block])
            for name, bins in features.items()
        },
        output=_filled(cut.output, output[prediction]),
        score=_filled(cut.score, output[score]) if cut.score else None,
    )


def _bins(
    feature: Feature, place: int, values: Sequence[RowValues], problems: Sequence[Problems]
) -> FeatureProfile:
    regular = [
        row[place]
        for row, warned in zip(values, problems, strict=True)
        if row[place] is not None and all(name != feature.name for name, *_ in warned)
    ]
    return bins_of(measure_of(feature), regular, sensitive=feature.sensitive)


def _output_bins(contract: Contract, answers: Answered) -> FeatureProfile:
    output = contract.output
    if output.type == "class":
        # A class that was never answered before is a change of the shares, and never "unseen".
        return FeatureProfile("text", FeatureCounts([]), categories=output.classes)
    known = [value for value in answers.values if value is not None]
    return bins_of("distance" if output.type == "vector" else "number", known)


def _of_scores(scores: Sequence[float]) -> FeatureProfile:
    # A score a little above the highest one of training is no news.
    return msgspec.structs.replace(
        bins_of("number", scores), low=None, high=None, counts=FeatureCounts([])
    )


def _filled(
    bins: FeatureProfile, counts: FeatureCounts, blocks: Sequence[FeatureCounts] = ()
) -> FeatureProfile:
    # Good and Turing: a value that one row alone has would have been new to the other rows.
    whole = msgspec.structs.replace(counts, unseen=counts.unseen + bins.counts.unseen)
    return msgspec.structs.replace(bins, counts=whole, blocks=tuple(blocks))


def _blocks(times: Times | None) -> TimeBlocks | None:
    if times is None:
        return None
    known = times.seconds[np.isfinite(times.seconds)]
    for hours in (1, 2, 4, 6, 12):
        size = 48 // hours
        rows = np.bincount(block_of(known, hours), minlength=size)
        if np.median(rows) >= ROWS_OF_A_BLOCK:
            return TimeBlocks(hours, tuple(rows.tolist()), times.feature)
    return None


def _by_block(
    counter: Counter,
    values: Sequence[RowValues],
    problems: Sequence[Problems],
    times: Times | None,
    time: TimeBlocks | None,
) -> list[Counts]:
    if times is None or time is None:
        return []
    known = np.isfinite(times.seconds)
    blocks = np.where(known, block_of(np.where(known, times.seconds, 0.0), time.hours), -1)
    found = []
    for block in range(len(time.rows)):
        rows = np.flatnonzero(blocks == block).tolist()
        found.append(
            counter.count([values[r] for r in rows], [problems[r] for r in rows], Answers())
        )
    return found
