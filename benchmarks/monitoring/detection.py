"""How often a change is found in the first two windows that have it, and in the right column.

    python benchmarks/monitoring/detection.py [--splits 20] [--budget 0.1] [--export DIR]

Prints a line for each size of window, each number of windows a month and each change. Before the
change come two windows without it; `wrong` are cases with an alarm on a column that was not
touched. A table that is too small for four windows is left out. Rules of thumb are asked about the
column that changed alone; `--export` writes it, of the first split, for libraries.py to be asked.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from benchmarks.monitoring.changes import CHANGES, MORE_CHANGES, Change, columns_for
from benchmarks.monitoring.false_alarms import p_values, psis_of
from benchmarks.monitoring.tables import tables
from benchmarks.monitoring.windows import Split, dependence_values
from model_service.drift.counts import Counts
from model_service.drift.dependence import Broken, Dependence, broken, dependence_of
from model_service.drift.rule import TESTS_OF_A_FEATURE, Levels, examine

HOURLY, DAILY = 720, 30
"""Windows a month: the more of them share the budget, the stricter each is judged."""
SIZES = ((200, DAILY), (200, HOURLY), (500, HOURLY), (1000, HOURLY), (5000, HOURLY))
ROWS_OF_A_DAY = (200, 500, 1000, 5000)
TRIES = 3
"""Columns that each change is tried in, drawn anew for each split."""


class Tally(msgspec.Struct):
    """Cases of one change at one size."""

    cases: int = 0
    found: int = 0
    wrong: int = 0
    unchanged_alarms: int = 0
    p: int = 0
    psi: int = 0


Tallies = dict[tuple[int, int, str], Tally]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=20, help="of each table")
    parser.add_argument("--budget", type=float, default=0.1, help="false alarms a month")
    parser.add_argument("--export", type=Path)
    given = parser.parse_args()
    chance, more = np.random.default_rng(1), np.random.default_rng(3)
    tallies: Tallies = defaultdict(Tally)
    for table in tables().values():
        for number in range(given.splits):
            split = Split(table, chance)
            folder = given.export if number == 0 else None
            _break(split, given.budget, chance, tallies)
            for size, a_month in SIZES:
                windows = [w for w, _ in zip(split.windows(size), range(4), strict=False)]
                if len(windows) == 4:
                    tests = TESTS_OF_A_FEATURE * len(table.columns)
                    levels = Levels.for_budget(given.budget, a_month, tests)
                    asked = (table, split, windows, levels, tallies, a_month)
                    _change(*asked, CHANGES, chance, folder)
                    _change(*asked, MORE_CHANGES, more)
    print("| rows | a month | change | cases | found | wrong | unchanged, yet an alarm | p | PSI |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (size, a_month, change), tally in sorted(tallies.items()):
        share = f"{tally.found / tally.cases:.1%}"
        alarms = tally.unchanged_alarms if change.startswith("broken") else ""
        told = f"{tally.cases} | {share} | {tally.wrong} | {alarms} | {tally.p} | {tally.psi} |"
        print(f"| {size:,} | {a_month} | {change} | {told}")
    print(f"{time.process_time():.0f} CPU seconds")


def _change(
    table: pd.DataFrame,
    split: Split,
    windows: list[pd.DataFrame],
    levels: Levels,
    tallies: Tallies,
    a_month: int,
    changes: dict[str, Change],
    chance: np.random.Generator,
    export: Path | None = None,
) -> None:
    counted = [split.count(window) for window in windows]
    for change, act in changes.items():
        columns = columns_for(change, table)
        for _ in range(TRIES if columns else 0):
            column = columns[int(chance.integers(len(columns)))]
            history = counted[:2]
            alarms: set[str] = set()
            cells = []
            for window, unchanged in zip(windows[2:], counted[2:], strict=True):
                changed = act(window[column], split.training[column], chance)
                features = {**unchanged.features, column: split.count_one(column, changed)}
                history = [*history, msgspec.structs.replace(unchanged, features=features)]
                found = examine(split.reference, history, levels)
                cells.append(changed)
                alarms |= {finding.feature for finding in found if finding.alarms}
            tally = tallies[len(windows[0]), a_month, change]
            tally.cases += 1
            tally.found += column in alarms
            tally.wrong += bool(alarms - {column})
            training = split.training[[column]]
            tally.p += any(p < 0.05 for c in cells for p in p_values(training, c.to_frame(column)))
            only = [Counts(features={column: h.features[column]}) for h in history[2:]]
            tally.psi += any(psi > 0.2 for one in only for psi in psis_of(split, one))
            if export is not None and a_month == HOURLY:
                export.mkdir(parents=True, exist_ok=True)
                case = export / f"{len(windows[0])}-{change.split(' (')[0]}-{tally.cases}"
                training.to_csv(f"{case}-training.csv", index=False)
                pd.concat(cells).to_frame(column).to_csv(f"{case}-windows.csv", index=False)


def _break(
    split: Split,
    budget: float,
    chance: np.random.Generator,
    tallies: Tallies,
) -> None:
    """Shuffle a column among the rows of a day: one of those that hang together with another."""
    reference = dependence_of(split.contract, split.reference, dependence_values(split.training))

    def ask(day: pd.DataFrame) -> list[Broken]:
        values = dependence_values(day)
        return broken(split.contract, split.reference, reference, values, budget / 60)

    linked = sorted(_linked(reference))
    for size in ROWS_OF_A_DAY:
        for day, _ in zip(split.windows(size), range(TRIES), strict=False):
            column = linked[int(chance.integers(len(linked)))]
            pairs = ask(day.assign(**{column: chance.permutation(day[column].to_numpy())}))
            tally = tallies[size, DAILY, "broken dependence (a day)"]
            tally.cases += 1
            tally.found += any(column in (pair.first, pair.second) for pair in pairs)
            tally.wrong += any(column not in (pair.first, pair.second) for pair in pairs)
            tally.unchanged_alarms += bool(ask(day))


def _linked(reference: Dependence) -> set[str]:
    names = np.array([name for name, _ in reference.columns])
    first, second = np.triu_indices(len(names), 1)
    strong = (np.abs(reference.correlations) >= 0.3) & (names[first] != names[second])
    return {*names[first][strong].tolist(), *names[second][strong].tolist()}


if __name__ == "__main__":
    main()
