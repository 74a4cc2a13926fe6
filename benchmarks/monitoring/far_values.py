"""How often a value lies far beyond all of training although nothing changed.

    python benchmarks/monitoring/far_values.py [--splits 30]

From it comes `FAR_AMONG_UNSEEN` of the rule, which no theory can give: how long a tail is
beyond the largest value of training is a question to the world. Windows have 200 rows. `again`
are two windows in a row with such a value, `twice` are windows with two.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from benchmarks.monitoring.tables import tables
from benchmarks.monitoring.windows import LARGEST_REFERENCE

ROWS = 200
REACHES = (0.25, 0.5, 1.0, 2.0)
"""How far beyond, as a share of the distance between smallest and largest value of training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=30, help="of each table")
    given = parser.parse_args()
    chance = np.random.default_rng(7)
    found: dict[float, Counter[str]] = {reach: Counter() for reach in REACHES}
    for table in tables().values():
        numbers = [str(name) for name in table.columns if table[name].dtype != object]
        for _ in range(given.splits):
            order = chance.permutation(len(table))
            cut = min(LARGEST_REFERENCE, len(table) // 2)
            for name in numbers:
                cells = table[name].to_numpy()[order]
                for reach, tally in found.items():
                    _add(tally, cells[:cut], cells[cut:], reach)
    print("| beyond | windows | values | again | twice | values, for each new row of a reference |")
    print("|---|---|---|---|---|---|")
    for reach, tally in found.items():
        share = 1e6 * tally["values"] / tally["expected"]
        seen = " | ".join(f"{tally[name]:,}" for name in ("windows", "values", "again", "twice"))
        print(f"| {reach:g} ranges | {seen} | {share:.3f} |")


def _add(tally: Counter[str], training: np.ndarray, later: np.ndarray, reach: float) -> None:
    """Count values beyond; `expected` if one row of N is new, in millionths."""
    known = training[~np.isnan(training)]
    low, high = known.min(), known.max()
    if low == high:
        return
    windows = later[: len(later) // ROWS * ROWS].reshape(-1, ROWS)
    beyond = np.maximum(low - windows, windows - high) > reach * (high - low)
    far = beyond.sum(axis=1)
    tally["windows"] += len(far)
    tally["values"] += int(far.sum())
    tally["again"] += int(((far[1:] > 0) & (far[:-1] > 0)).sum())
    tally["twice"] += int((far > 1).sum())
    tally["expected"] += round(1e6 * windows.size / len(training))


if __name__ == "__main__":
    main()
