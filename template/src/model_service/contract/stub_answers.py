"""What the stub answers: made up from the contract, always the same for the same row.

The documented examples show these very answers, so that the stub keeps what the documents say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.contract.examples import example_answer


def row_seeds(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return a number for each row, made from its values as the policies left them."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return np.array([_seed(row) for row in rows], dtype=np.int64)


def stub_answers(contract: Contract, seeds: Sequence[int]) -> NDArray[np.float64]:
    """Return answers in the shape that models give them: a row of probabilities for a class."""
    answers: list[Any] = []
    for seed in seeds:
        made = example_answer(contract, seed)
        answers.append(list(made.probabilities.values()) if made.probabilities else made.value)
    return np.array(answers, dtype=np.float64)


def _seed(row: tuple[Any, ...]) -> int:
    digest = hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest)
