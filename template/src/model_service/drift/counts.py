"""Counts of what came in and what was answered: they add up exactly, over workers and hours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.contract.rows import RowValues
from model_service.drift.binning import FeatureCounter
from model_service.registry.profile import (
    FeatureCounts,
    ReferenceProfile,
    output_names,
)

Problems = Sequence[Sequence[str]]
"""What was wrong with a row: (feature, problem or fault code, ...), as warnings are logged."""
FIRST_WEEKEND_DAY = 5
_COUNTED_APART = {"missing": "missing", "out_of_range": "out_of_range"}


class Answered(Protocol):
    """What a version answered, row by row; a value is None where the model failed."""

    @property
    def values(self) -> Sequence[Any]: ...

    @property
    def probabilities(self) -> Any: ...


class Counts(msgspec.Struct):
    """What came in some span of time.

    `rows` were received, of which the contract `refused` some; `features` also has the prediction
    and its score. `blocks` are the rows by block of time (see `registry.profile.TimeBlocks`).
    """

    rows: int = 0
    refused: int = 0
    features: dict[str, FeatureCounts] = {}
    blocks: dict[int, int] = {}

    def add(self, part: Counts) -> None:
        """Add what was counted elsewhere, or later, of the same version."""
        self.rows += part.rows
        self.refused += part.refused
        for block, rows in part.blocks.items():
            self.blocks[block] = self.blocks.get(block, 0) + rows
        for name, counts in part.features.items():
            sofar = self.features.get(name)
            if sofar is None:
                self.features[name] = msgspec.structs.replace(counts, bins=list(counts.bins))
            else:
                _add(sofar, counts)

    def encode(self) -> bytes:
        """Return the counts as bytes."""
        return _encode(self)

    @staticmethod
    def decode(content: bytes) -> Counts:
        """Return the counts that `encode` made bytes of.

        Raises:
            msgspec.MsgspecError: they are no such bytes.
        """
        return _decoder.decode(content)


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Counts)


def merge(parts: Iterable[Counts]) -> Counts:
    """Add counts of one version up, in any order."""
    whole = Counts()
    for part in parts:
        whole.add(part)
    return whole


def _add(whole: FeatureCounts, part: FeatureCounts) -> None:
    whole.bins = [a + b for a, b in zip(whole.bins, part.bins, strict=True)]
    whole.missing += part.missing
    whole.unseen += part.unseen
    whole.out_of_range += part.out_of_range
    whole.far += part.far


class Counter:
    """Counts rows and their answers by the profile of one version. Share it between threads."""

    def __init__(self, contract: Contract, profile: ReferenceProfile) -> None:
        self._profile = profile
        self._places = {name: place for place, name in enumerate(contract.feature_names)}
        outputs = zip(output_names(contract), (profile.output, profile.score), strict=True)
        self._prediction, self._score = output_names(contract)
        bins = profile.features | {name: bins for name, bins in outputs if bins is not None}
        self._counters = {name: FeatureCounter(each) for name, each in bins.items()}

    def count(
        self,
        values: Sequence[RowValues],
        warnings: Sequence[Problems],
        answers: Answered,
        *,
        refused: Sequence[Problems] = (),
        at: float | NDArray[Any] = 0.0,
    ) -> Counts:
        """Count accepted rows with the warnings and the answer of each, and refused rows by faults.

        `at`, for all rows or for each, is when they were answered in seconds since 1970 (UTC).
        """
        found = Counts(len(values) + len(refused), len(refused))
        problems = self._by_feature(warnings)
        cells = list(chain.from_iterable(values))
        width = len(self._places)
        for name, place in self._places.items():
            counter = self._counters.get(name)
            if counter is None:
                continue
            acted = problems.get(name, {})
            without = [row for rows in acted.values() for row in rows]
            found.features[name] = counter.count(cells[place::width], without)
            for problem, rows in acted.items():
                _add_problem(found.features[name], problem, len(rows))
        for faults in refused:
            for name, fault in {(fault[0], fault[1]) for fault in faults}:
                if name in found.features and fault != "unknown_field":
                    _add_problem(found.features[name], fault, 1)
        self._count_answers(found, answers)
        self._count_blocks(found, values, at)
        return found

    def _by_feature(self, warnings: Sequence[Problems]) -> dict[str, dict[str, list[int]]]:
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row, warned in enumerate(warnings):
            for warning in warned:
                if warning[1] != "unknown_field":
                    found[warning[0]][warning[1]].append(row)
        return found

    def _count_answers(self, found: Counts, answers: Answered) -> None:
        counters = self._counters
        found.features[self._prediction] = counters[self._prediction].count(answers.values)
        if self._score in counters and answers.probabilities is not None:
            scores = scores_of(answers.probabilities)
            found.features[self._score] = counters[self._score].count(scores.tolist())

    def _count_blocks(
        self, found: Counts, values: Sequence[RowValues], at: float | NDArray[Any]
    ) -> None:
        time = self._profile.time
        if time is None or not values:
            return
        moments = np.broadcast_to(np.asarray(at, dtype=np.float64), (len(values),))
        if time.feature in self._places:
            place = self._places[time.feature]
            cells: list[Any] = [row[place] for row in values]
            known = [cell.timestamp() for cell in cells if cell is not None]
            moments = np.array(known, dtype=np.float64)
        blocks, rows = np.unique(block_of(moments, time.hours), return_counts=True)
        found.blocks = dict(zip(blocks.tolist(), rows.tolist(), strict=True))


def scores_of(probabilities: Any) -> NDArray[np.float64]:
    """Return the probability of the second of two classes, or the largest one, of each row that
    has probabilities."""
    if not isinstance(probabilities, np.ndarray):
        probabilities = [row for row in probabilities if row]
    shares = np.asarray(probabilities, dtype=np.float64)
    if not shares.size:
        return np.empty(0)
    scores: NDArray[np.float64] = shares[:, 1] if shares.shape[1] == 2 else shares.max(axis=1)
    return scores


def block_of(moments: NDArray[np.float64], hours: int) -> NDArray[np.int64]:
    """Return the block of the week in which each moment lies, in seconds since 1970 (UTC)."""
    days, seconds = np.divmod(moments, 86_400.0)
    # 1970 began on a Thursday, the day 3 of a week that begins with 0.
    weekend = (days + 3) % 7 >= FIRST_WEEKEND_DAY
    blocks: NDArray[np.int64] = (seconds // (3600 * hours) + weekend * (24 // hours)).astype(int)
    return blocks


def _add_problem(counts: FeatureCounts, problem: str, rows: int) -> None:
    kind = _COUNTED_APART.get(problem, "unseen")
    setattr(counts, kind, getattr(counts, kind) + rows)
