"""How two versions answer the same rows: where they differ, and where a decision flips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from model_service.contract.contract import Feature
from model_service.registry.golden import GoldenPrediction, is_same
from model_service.registry.loaded_version import LoadedVersion, answers_by_row

FEWEST_ROWS_OF_A_SLICE = 5
SLICES_KEPT = 10
Row = dict[str, Any]


class Slice(msgspec.Struct, frozen=True):
    """The rows in which a feature has a value, and in how many of them the answers differ."""

    feature: str
    value: str
    rows: int
    differing: int

    @property
    def share(self) -> float:
        """The share of the slice's rows that are answered differently, between 0 and 1."""
        return self.differing / self.rows


class Comparison(msgspec.Struct, frozen=True):
    """What two versions answered.

    `rows` were answered by both; `only_old` and `only_new` by one of them, because the other's
    contract refuses them. `differing` values lie further apart than float32 explains; of a class
    output each is a decision that flipped, counted in `flips` as (old, new, rows). `distances` are
    the median, the 95th percentile and the largest difference of a number, in the output's unit.
    """

    rows: int
    only_old: int
    only_new: int
    differing: int
    flips: tuple[tuple[str, str, int], ...] = ()
    distances: tuple[float, float, float] | None = None
    slices: tuple[Slice, ...] = ()

    @property
    def differing_share(self) -> float:
        """The share of the rows that both answered whose answers differ; 1 if there is none."""
        return self.differing / self.rows if self.rows else 1.0


def compare(
    old: LoadedVersion, new: LoadedVersion, rows: Sequence[Row], slices: Sequence[str] = ()
) -> Comparison:
    """Let both versions answer rows as a caller sends them, and say where they differ.

    Of the features in `slices` every value is told of, also where all answers agree.

    Raises:
        ModelError: one of them has no answer for a row that its contract accepts.
    """
    by_old, by_new = answers_by_row(old, rows), answers_by_row(new, rows)
    both = sorted(by_old.keys() & by_new.keys())
    differs = {row: not is_same(by_old[row].value, by_new[row].value) for row in both}
    return Comparison(
        rows=len(both),
        only_old=len(by_old.keys() - by_new.keys()),
        only_new=len(by_new.keys() - by_old.keys()),
        differing=sum(differs.values()),
        flips=_flips(old, by_old, by_new, [row for row in both if differs[row]]),
        distances=_distances(old, new, by_old, by_new, both),
        slices=_slices(old.contract.features, rows, differs, slices),
    )


def rows_to_compare(old: LoadedVersion, new: LoadedVersion) -> list[Row]:
    """Return the rows of the golden predictions of both, each once."""
    rows = [golden.row for version in (old, new) for golden in version.golden]
    return list({msgspec.json.encode(row, order="sorted"): row for row in rows}.values())


def _flips(
    old: LoadedVersion,
    by_old: dict[int, GoldenPrediction],
    by_new: dict[int, GoldenPrediction],
    differing: Sequence[int],
) -> tuple[tuple[str, str, int], ...]:
    if old.contract.output.type != "class":
        return ()
    counted = Counter((str(by_old[row].value), str(by_new[row].value)) for row in differing)
    return tuple((was, now, count) for (was, now), count in counted.most_common())


def _distances(
    old: LoadedVersion,
    new: LoadedVersion,
    by_old: dict[int, GoldenPrediction],
    by_new: dict[int, GoldenPrediction],
    both: Sequence[int],
) -> tuple[float, float, float] | None:
    types = {old.contract.output.type, new.contract.output.type}
    if types != {"number"} or not both:
        return None
    apart = np.abs([_number(by_old[row]) - _number(by_new[row]) for row in both])
    return float(np.median(apart)), float(np.quantile(apart, 0.95)), float(apart.max())


def _number(answer: GoldenPrediction) -> float:
    assert isinstance(answer.value, float | int)
    return float(answer.value)


def _slices(
    features: Sequence[Feature],
    rows: Sequence[Row],
    differs: dict[int, bool],
    declared: Sequence[str],
) -> tuple[Slice, ...]:
    """Return the declared slices, then those with the most answers that differ, worst first."""
    found: list[Slice] = []
    for feature in features:
        members: dict[str, list[bool]] = {}
        for row, value in _slice_of(feature, rows, list(differs)):
            members.setdefault(value, []).append(differs[row])
        found += [
            Slice(feature.name, value, len(inside), sum(inside))
            for value, inside in members.items()
            if feature.name in declared or (len(inside) >= FEWEST_ROWS_OF_A_SLICE and any(inside))
        ]
    found.sort(key=lambda one: (-one.share, -one.rows, one.feature, one.value))
    others = [one for one in found if one.feature not in declared]
    return (*(one for one in found if one.feature in declared), *others[:SLICES_KEPT])


def _slice_of(
    feature: Feature, rows: Sequence[Row], answered: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """Yield each row with what to call its value: a category, a third of the numbers, missing."""
    values = {row: rows[row].get(feature.name) for row in answered}
    numbers = [float(v) for v in values.values() if isinstance(v, int | float)]
    if feature.type in ("integer", "number") and numbers:
        low, high = np.quantile(numbers, [1 / 3, 2 / 3]).tolist()
    for row, value in values.items():
        if value is None:
            yield row, "missing"
        elif feature.type in ("category", "boolean"):
            yield row, str(value)
        elif feature.type in ("integer", "number"):
            yield row, _third(float(value), low, high)


def _third(value: float, low: float, high: float) -> str:
    if value <= low:
        return f"up to {low:.4g}"
    return f"above {high:.4g}" if value > high else f"{low:.4g} to {high:.4g}"
