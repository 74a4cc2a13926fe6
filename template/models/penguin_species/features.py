"""Raw columns to the model's inputs: the same code in training and in serving."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray


def features(columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Return the measurements, and the shape of the bill, which tells Adelie from Chinstrap."""
    return {**columns, "bill_ratio": columns["bill_length_mm"] / columns["bill_depth_mm"]}
