"""Measures the blind-spot card: faults in held-out rows, and whether watching would find them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract, Feature
from model_service.contract.rows import RowReader
from model_service.drift.blind_spots import BlindSpots, FalseAlarms, SmallestFound
from model_service.drift.counts import Answered, Counter, Counts
from model_service.drift.dependence import Dependence, smallest_share_broken
from model_service.drift.profiling import Answers, problems_of
from model_service.drift.rule import (
    TESTS_OF_A_FEATURE,
    WINDOWS_A_DAY,
    Levels,
    examine,
    windows_per_month,
)
from model_service.registry.profile import FeatureCounts, ReferenceProfile, output_names

ROWS_HIT = 400
"""Faults are put into so many held-out rows; windows of any size are drawn from what they did."""
DAYS = 10
DAYS_FOUND = 9
FALSE_ALARM_WINDOWS = 40
Hit = Callable[[Any, float], Any]


class Fault(msgspec.Struct, frozen=True):
    """`hit` changes a value by a size; with `by_share` the size is the share of the rows hit."""

    name: str
    unit: str
    sizes: tuple[float, ...]
    hit: Hit
    by_share: bool = False


class HeldOut(msgspec.Struct, frozen=True):
    """Held-out rows as they were sent and as they were answered, and when they happened (seconds
    since 1970, UTC) if that is known."""

    raw: Sequence[dict[str, Any]]
    answers: Answered
    seconds: NDArray[np.float64] | None = None


def blind_spots_of(
    contract: Contract,
    profile: ReferenceProfile,
    dependence: Dependence,
    held_out: HeldOut,
    rows_per_day: int,
    budget: float,
) -> BlindSpots:
    """Put each fault into each feature, and return the smallest size that is found within a day.

    Found is what alarms by the end of nine of ten days, each drawn anew. What a fault does is the
    difference that it makes in held-out rows, added to the reference: so that a held-out part which
    is not quite like the training part is not taken for the fault.
    """
    chance = np.random.default_rng(0)
    a_month = windows_per_month(rows_per_day)
    tests = TESTS_OF_A_FEATURE * len(contract.features) + 2
    levels = Levels.for_budget(budget, a_month, tests)
    features: dict[str, tuple[SmallestFound, ...]] = {}
    for feature in contract.features:
        day = _Day(contract, profile, feature, levels, tests, rows_per_day, chance)
        cells = [row.get(feature.name) for row in held_out.raw[:ROWS_HIT]]
        found = [day.smallest(fault, cells) for fault in _faults(feature, cells)]
        share = smallest_share_broken(dependence, feature.name, rows_per_day, budget / 60)
        if share is not None:
            size = share if share <= 1 else None
            found.append(SmallestFound("broken dependence", "share of rows", size, 1.0))
        features[feature.name] = tuple(found)
    return BlindSpots(
        rows_per_day,
        features,
        tuple(name for name, found in features.items() if found[0].size is None),
        _false_alarms(contract, profile, held_out, rows_per_day, budget),
    )


class _Day:
    """Days of one feature: its windows are drawn, and held against the reference by the rule."""

    def __init__(
        self,
        contract: Contract,
        profile: ReferenceProfile,
        feature: Feature,
        levels: Levels,
        tests: int,
        rows_per_day: int,
        chance: np.random.Generator,
    ) -> None:
        alone = msgspec.structs.replace(contract, features=(feature,))
        bins = msgspec.structs.replace(profile.features[feature.name], blocks=())
        self._name = feature.name
        self._profile = msgspec.structs.replace(
            profile, features={feature.name: bins}, score=None, time=None
        )
        self._reader = RowReader(alone)
        self._counter = Counter(alone, self._profile)
        self._outputs = output_names(contract)
        # Holm begins at the level over all tests: these are a few of them.
        own = TESTS_OF_A_FEATURE
        self._levels = Levels(levels.strict * own / tests, levels.loose)
        windows = round(windows_per_month(rows_per_day) / 30)
        self._windows = min(windows, WINDOWS_A_DAY)
        self._rows = max(1, rows_per_day // self._windows)
        self._chance = chance
        counts = bins.counts
        self._reference = np.array(
            [*counts.bins, counts.missing, 0, counts.out_of_range, 0], dtype=np.float64
        ) / max(1, profile.rows)

    def smallest(self, fault: Fault, cells: Sequence[Any]) -> SmallestFound:
        """Return the smallest size of a fault that is found."""
        before = self._shares(cells)
        size = next(
            (size for size in fault.sizes if self._is_found(fault, size, cells, before)), None
        )
        return SmallestFound(fault.name, fault.unit, size, fault.sizes[-1])

    def _is_found(
        self, fault: Fault, size: float, cells: Sequence[Any], before: NDArray[np.float64]
    ) -> bool:
        change = self._shares([fault.hit(cell, size) for cell in cells]) - before
        shares = (self._reference + change * (size if fault.by_share else 1.0)).clip(min=0)
        # What is left has no bin, as the unlike half of a sensitive number.
        outcomes = np.append(shares, max(0.0, 1 - shares.sum()))
        outcomes /= outcomes.sum()
        missed = 0
        for _ in range(DAYS):
            drawn = self._chance.multinomial(self._rows, outcomes, self._windows).tolist()
            history = [self._counts(each) for each in drawn]
            findings = examine(self._profile, history, self._levels, output=self._outputs)
            missed += not any(found.alarms for found in findings)
            if missed > DAYS - DAYS_FOUND:
                return False
        return True

    def _shares(self, cells: Sequence[Any]) -> NDArray[np.float64]:
        read = self._reader.read_rows([{self._name: cell} for cell in cells])
        refused = [
            [(self._name, fault.code) for fault in faults] for faults in read.faults.values()
        ]
        found = self._counter.count(read.values, problems_of(read), Answers(), refused=refused)
        counts = found.features[self._name]
        near = counts.unseen - counts.far
        apart = [counts.missing, near, counts.out_of_range, counts.far]
        return np.array([*counts.bins, *apart], dtype=np.float64) / max(1, len(cells))

    def _counts(self, drawn: list[int]) -> Counts:
        bins, (missing, near, out_of_range, far, _) = drawn[:-5], drawn[-5:]
        counts = FeatureCounts(bins, missing, near + far, out_of_range, far)
        return Counts(self._rows, 0, {self._name: counts})


SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DEVIATIONS = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
FACTORS = (1.02, 1.05, 1.1, 1.25, 1.5, 2.0)
UNITS = (2.54, 10.0, 1000.0)


def _faults(feature: Feature, cells: Sequence[Any]) -> list[Fault]:
    """Return the faults that a feature may have; the first one must be found."""
    missing = Fault("missing", "share of rows", SHARES, lambda *_: None, by_share=True)
    known = [cell for cell in cells if cell is not None and cell != ""]
    if not known or feature.type == "datetime":
        return [missing]
    usual = max(known, key=known.count) if feature.type != "vector" else known[0]
    frozen = Fault("frozen", "share of rows", (1.0,), lambda *_: usual, by_share=True)
    if feature.type == "boolean":
        return [missing, frozen]
    if feature.is_text:
        other = "never seen before"[: feature.max_length]
        new = Fault("new category", "share of rows", SHARES, lambda *_: other, by_share=True)
        # Sensitive text is only measured, and free text may always be new.
        return [new, frozen, missing] if feature.type == "category" else [missing, frozen]
    return [*_faults_of_numbers(feature, known), frozen, missing]


def _faults_of_numbers(feature: Feature, known: Sequence[Any]) -> list[Fault]:
    numbers = np.array(known, dtype=np.float64)
    deviation = float(numbers.std(axis=0).mean()) or 1.0
    far = float(np.max(numbers) + 10 * deviation)
    whole = feature.type == "integer"

    def changed(change: Callable[[float, float], float]) -> Hit:
        def one(number: float, size: float) -> float | int:
            after = change(number, size)
            return round(after) if whole else after

        def hit(cell: Any, size: float) -> Any:
            if cell is None:
                return None
            return [one(each, size) for each in cell] if isinstance(cell, list) else one(cell, size)

        return hit

    return [
        Fault("shift", "standard deviations", DEVIATIONS, changed(lambda n, s: n + s * deviation)),
        Fault("scale", "times", FACTORS, changed(lambda n, s: n * s)),
        Fault("unit", "times", UNITS, changed(lambda n, s: n * s)),
        Fault("outliers", "share of rows", SHARES, changed(lambda *_: far), by_share=True),
    ]


def _false_alarms(
    contract: Contract,
    profile: ReferenceProfile,
    held_out: HeldOut,
    rows_per_day: int,
    budget: float,
) -> FalseAlarms:
    """Watch the held-out rows in the order of time, in windows as large as there are rows for."""
    a_month = windows_per_month(rows_per_day)
    levels = Levels.for_budget(budget, a_month, TESTS_OF_A_FEATURE * len(contract.features) + 2)
    usual = max(1, math.ceil(rows_per_day * 30 / a_month))
    rows = max(1, min(usual, len(held_out.raw) // 4))
    seconds = held_out.seconds
    order = np.arange(len(held_out.raw))
    if seconds is not None:
        order = np.argsort(seconds, kind="stable")
    reader, counter = RowReader(contract), Counter(contract, profile)
    shares = held_out.answers.probabilities
    history: list[Counts] = []
    alarms = 0
    for start in range(0, min(len(order) // rows, FALSE_ALARM_WINDOWS) * rows, rows):
        part = order[start : start + rows].tolist()
        read = reader.read_rows([held_out.raw[row] for row in part])
        answers = Answers(
            [held_out.answers.values[row] for row in part], None if shares is None else shares[part]
        )
        at = 0.0 if seconds is None else np.nan_to_num(seconds[part])
        history.append(counter.count(read.values, problems_of(read), answers, at=at))
        findings = examine(profile, history[-16:], levels, output=output_names(contract))
        alarms += any(found.alarms for found in findings)
    return FalseAlarms(len(history), rows, alarms, budget, a_month)
