"""Raw columns to the model's inputs: the same code in training and in serving."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def features(columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Return the model's inputs, an array per input.

    `columns` has an array per feature of the contract: numbers as float64 with NaN where one is
    missing, text as objects with "" where it is missing. Each row must depend on itself alone.
    A ratio is written as in a notebook: `{**columns, "ratio": columns["a"] / columns["b"]}`.
    """
    return {name: _days(column) for name, column in columns.items()}


def _days(column: NDArray[Any]) -> NDArray[Any]:
    """Return moments as days since 1970, NaN where one is missing; anything else as it is."""
    if column.dtype.kind != "M":
        return column
    days = column.astype("datetime64[us]").astype(np.float64) / 86_400e6
    return np.where(np.isnat(column), np.nan, days)
