"""Rows of a small world that does not change, or changes as a test says, and their counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.contract.reading import parse_contract
from model_service.contract.rows import RowReader
from model_service.drift.counts import Counter, Counts
from model_service.drift.profiling import Answers, problems_of, profile_of
from model_service.registry.profile import ReferenceProfile

CONTRACT = """\
name: loan
contract_version: "1.0"
description: Tells who pays back.
unknown_fields: ignore
features:
  income: {type: number, on_missing: {impute: 30}}
  age: {type: integer, minimum: 0, maximum: 120, on_out_of_range: clip}
  weight: {type: number, minimum: 0, maximum: 1000}
  owner: {type: boolean}
  region:
    {type: category, categories: [east, north, south, west], on_missing: pass, on_unknown: pass}
  street: {type: string, sensitive: true, max_length: 100}
  picture: {type: vector, length: 4}
  since: {type: datetime}
output: {name: paid, type: class, classes: ["no", "yes"], meaning: Who pays, calibrated: false}
"""


def contract() -> Contract:
    return parse_contract(CONTRACT, Path("contract.yaml"), model="loan")


def rows(chance: np.random.Generator, count: int) -> list[dict[str, Any]]:
    return [
        {
            "income": None if chance.random() < 0.02 else float(chance.lognormal(3, 0.5)),
            "age": int(chance.normal(45, 12)),
            "weight": float(abs(chance.normal(70, 10))),
            "owner": bool(chance.random() < 0.05),
            "region": None
            if chance.random() < 0.03
            else ("east", "north", "south", "west")[int(chance.choice(4, p=[0.4, 0.3, 0.2, 0.1]))],
            "street": "x" * int(chance.integers(5, 40)),
            "picture": chance.normal(0, 1, 4).tolist(),
            "since": "2026-01-01T00:00:00Z",
        }
        for _ in range(count)
    ]


class World:
    """A reference of `size` rows, and windows that are counted by it."""

    def __init__(self, seed: int = 0, size: int = 4000) -> None:
        self.chance = np.random.default_rng(seed)
        self.contract = contract()
        self.reader = RowReader(self.contract)
        read = self.reader.read_rows(rows(self.chance, size))
        assert not read.faults
        self.reference: ReferenceProfile = profile_of(self.contract, read, self.answers(size // 4))
        self.counter = Counter(self.contract, self.reference)

    def answers(self, count: int) -> Answers:
        shares: NDArray[np.float64] = self.chance.beta(2, 5, count)
        values = ["yes" if share > 0.5 else "no" for share in shares]
        return Answers(values, np.column_stack([1 - shares, shares]))

    def count(self, window: list[dict[str, Any]]) -> Counts:
        read = self.reader.read_rows(window)
        refused = [[(f.pointer[1:], f.code) for f in faults] for faults in read.faults.values()]
        answers = self.answers(len(read.values))
        return self.counter.count(read.values, problems_of(read), answers, refused=refused)

    def window(self, size: int = 1000) -> list[dict[str, Any]]:
        return rows(self.chance, size)
