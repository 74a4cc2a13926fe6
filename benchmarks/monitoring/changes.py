"""What is done to a column of a window: each change is known by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

Change = Callable[["pd.Series[Any]", "pd.Series[Any]", np.random.Generator], "pd.Series[Any]"]
"""Changes a column, given the same column in training."""


def _hit(share: float, value: Callable[[Any], Any]) -> Change:
    """Give each row by chance, as a fault in the world does it, a value made from training."""

    def change(column: Any, training: Any, chance: np.random.Generator) -> Any:
        return column.mask(chance.random(len(column)) < share, value(training))

    return change


def _hit_exactly(share: float, value: Callable[[Any], Any]) -> Change:
    """Give this share of a window's rows, no more and no fewer, a value made from training."""

    def change(column: Any, training: Any, chance: np.random.Generator) -> Any:
        hit = np.zeros(len(column), dtype=bool)
        hit[chance.permutation(len(column))[: round(share * len(column))]] = True
        return column.mask(hit, value(training))

    return change


def _frozen(column: Any, _: Any, chance: np.random.Generator) -> Any:
    known = column.dropna()
    return known.iloc[[int(chance.integers(len(known)))] * len(column)].set_axis(column.index)


def _far(known: Any) -> Any:
    return known.max() + 10 * known.std()


CHANGES: dict[str, Change] = {
    "shift of half a standard deviation": lambda column, training, _: column + training.std() / 2,
    "5 % missing": _hit(0.05, lambda _: None),
    "2 % of a new category": _hit(0.02, lambda _: "never seen before"),
    "unit (feet for metres)": lambda column, _, __: column / 0.3048,
    "frozen": _frozen,
    "1 % outliers (10 SD beyond)": _hit(0.01, _far),
}
"""What hits a share of the rows hits each by chance: some windows have more of it, some nothing."""

MORE_CHANGES: dict[str, Change] = {
    "5 % missing, exactly": _hit_exactly(0.05, lambda _: None),
    "2 % of a new category, exactly": _hit_exactly(0.02, lambda _: "never seen before"),
    "1 % outliers in varied numbers": _hit(0.01, _far),
    "1 % outliers in varied numbers, exactly": _hit_exactly(0.01, _far),
    "1 % outliers in other numbers": _hit(0.01, _far),
    "1 % outliers in other numbers, exactly": _hit_exactly(0.01, _far),
}
"""Of a number that is one value in half of the rows ten deviations may be less than a unit."""


def columns_for(change: str, table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that a change is tried in.

    A number that is the same in half of the rows is neither shifted nor measured in a unit, and may
    stand still; more values are missing where at most a tenth were; outliers are far in any number.
    """
    numbers = [str(name) for name in table.columns if table[name].dtype != object]
    if "missing" in change:
        return [str(name) for name in table.columns if table[name].isna().mean() < 0.1]
    if "category" in change:
        return [str(name) for name in table.columns if table[name].dtype == object]
    varied = [n for n in numbers if table[n].value_counts(normalize=True).iloc[0] < 0.5]
    if "outliers" in change:
        tried = [n for n in numbers if ("varied" in change) <= (n in varied)]
        tried = [n for n in tried if ("other" in change) <= (n not in varied)]
        return [name for name in tried if table[name].isna().mean() < 0.1]
    return [n for n in varied if table[n].nunique() > 2 and table[n].isna().mean() < 0.5]
