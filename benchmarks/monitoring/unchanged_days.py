"""How often days in which nothing changed are said to have a broken dependence, by rows a day.

python benchmarks/monitoring/unchanged_days.py [--splits 40]
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from benchmarks.monitoring.tables import tables
from benchmarks.monitoring.windows import Split, dependence_values
from model_service.drift.dependence import broken, dependence_of

ROWS_OF_A_DAY = (200, 500)
DAYS = 14
BUDGET_OF_A_DAY = 0.1 / 30 / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=40, help="of each table")
    given = parser.parse_args()
    chance = np.random.default_rng(4)
    days: Counter[int] = Counter()
    alarms: Counter[int] = Counter()
    for table in tables().values():
        for _ in range(given.splits):
            split = Split(table, chance)
            contract, profile = split.contract, split.reference
            reference = dependence_of(contract, profile, dependence_values(split.training))
            for rows in ROWS_OF_A_DAY:
                for day, _ in zip(split.windows(rows), range(DAYS), strict=False):
                    values = dependence_values(day)
                    days[rows] += 1
                    alarms[rows] += bool(
                        broken(contract, profile, reference, values, BUDGET_OF_A_DAY)
                    )
    for rows in ROWS_OF_A_DAY:
        allowed = BUDGET_OF_A_DAY * days[rows]
        print(f"{rows} rows: {alarms[rows]} of {days[rows]:,} days, where {allowed:.1f} may")


if __name__ == "__main__":
    main()
