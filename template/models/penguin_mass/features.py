"""Raw columns to the model's inputs: the same code in training and in serving."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray


def features(columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Return the measurements as they are: the trees find the rest."""
    return dict(columns)
