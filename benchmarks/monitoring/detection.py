"""How often a change is found in the first two windows that have it, and in the right column.

    python benchmarks/monitoring/detection.py [--repeats 150] [--budget 0.1]

Prints a line for each size of window and each change. Before the change come two windows without
it. `wrong` are alarms on a column that was not touched; a change that the columns of no table can
show is left out.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from benchmarks.monitoring.changes import CHANGES, columns_for
from benchmarks.monitoring.tables import tables
from benchmarks.monitoring.windows import Split, dependence_values
from model_service.drift.dependence import broken, dependence_of
from model_service.drift.rule import Levels, examine

WINDOWS_A_MONTH = 720
SIZES = (200, 1000, 5000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=150, help="of each change and size")
    parser.add_argument("--budget", type=float, default=0.1, help="false alarms a month")
    given = parser.parse_args()
    chance = np.random.default_rng(1)
    found = tables()
    print("| rows | change | cases | found in two windows | wrong columns |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        for change in CHANGES:
            print(_line(size, change, found, given.repeats, given.budget, chance), flush=True)
    for size in SIZES[1:]:
        print(_broken_line(size, found, given.repeats, given.budget, chance), flush=True)
    print(f"{time.process_time():.0f} CPU seconds")


def _line(
    size: int,
    change: str,
    found: dict[str, pd.DataFrame],
    repeats: int,
    budget: float,
    chance: np.random.Generator,
) -> str:
    hits: list[bool] = []
    wrong = 0
    large = [t for t in found.values() if len(t) // 2 >= 3 * size and columns_for(change, t)]
    while len(hits) < repeats:
        for table in large:
            split = Split(table, chance)
            levels = Levels.for_budget(budget, WINDOWS_A_MONTH, 4 * len(table.columns))
            windows = [w for w, _ in zip(split.windows(size), range(4), strict=False)]
            columns = columns_for(change, table)
            column = columns[int(chance.integers(len(columns)))]
            before = windows[: len(windows) - 2]
            history = [split.count(window) for window in before]
            hit = False
            for window in windows[-2:]:
                changed = CHANGES[change](window[column], split.training[column], chance)
                history.append(split.count(window.assign(**{column: changed})))
                alarms = {f.feature for f in examine(split.reference, history, levels) if f.alarms}
                hit |= column in alarms
                wrong += bool(alarms - {column})
            hits.append(hit)
    return f"| {size:,} | {change} | {len(hits)} | {np.mean(hits):.1%} | {wrong} |"


def _broken_line(
    size: int,
    found: dict[str, pd.DataFrame],
    repeats: int,
    budget: float,
    chance: np.random.Generator,
) -> str:
    """A column is shuffled among the rows of a day; the columns are those that hang together."""
    hits: list[bool] = []
    wrong = false = 0
    while len(hits) < repeats:
        for table in found.values():
            split = Split(table, chance)
            if len(split.later) < size:
                continue
            training = dependence_values(split.training)
            reference = dependence_of(split.contract, split.reference, training)
            linked = {
                pair[0]
                for (pair, r) in zip(_pairs(reference.columns), reference.correlations, strict=True)
                if abs(r) >= 0.3 and pair[0] != pair[1]
            }
            window = next(split.windows(size))
            level = budget / 30
            values = dependence_values(window)
            false += bool(broken(split.contract, split.reference, reference, values, level))
            column = sorted(linked)[int(chance.integers(len(linked)))]
            shuffled = window.assign(**{column: chance.permutation(window[column].to_numpy())})
            pairs = broken(
                split.contract, split.reference, reference, dependence_values(shuffled), level
            )
            hits.append(any(column in (p.first, p.second) for p in pairs))
            wrong += any(column not in (p.first, p.second) for p in pairs)
    return (
        f"| {size:,} | broken dependence | {len(hits)} | {np.mean(hits):.1%} | {wrong} "
        f"({false} of {len(hits)} unchanged) |"
    )


def _pairs(columns: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    names = [name for name, _ in columns]
    return [(names[i], names[j]) for i in range(len(names)) for j in range(i + 1, len(names))]


if __name__ == "__main__":
    main()
