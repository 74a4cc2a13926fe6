"""How often windows in which nothing changed raise an alarm, by this rule and by rules of thumb.

    python benchmarks/monitoring/false_alarms.py [--windows 1500] [--a-month 720] [--export DIR]

With `--export` the training rows and windows of one split per table and size are written as CSV,
for benchmarks/monitoring/libraries.py to be asked about the same rows. Each window
has its history, so that the merging of windows and the two of three are part of what is tested.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.monitoring.tables import tables
from benchmarks.monitoring.windows import Split
from model_service.drift.counts import Counts
from model_service.drift.rule import TESTS_OF_A_FEATURE, Levels, examine

LONGEST_HISTORY = 16
THUMB_WINDOWS = 25
"""Rules of thumb are asked of so many windows a table: they need no more to show what they do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=1500, help="of 200 and of 1,000 rows")
    parser.add_argument("--a-month", type=int, default=720, help="windows that share a budget")
    parser.add_argument("--export", type=Path)
    given = parser.parse_args()
    chance = np.random.default_rng(2)
    found = tables()
    for name, table in found.items():
        words = sum(table[column].dtype == object for column in table.columns)
        print(f"{name}: {len(table):,} rows, {len(table.columns)} columns, {words} of text")
    print("| rows | windows | this rule | any p < 0.05 | any PSI > 0.2 |")
    print("|---|---|---|---|---|")
    for size, windows in ((200, given.windows), (1000, given.windows), (5000, given.windows // 5)):
        print(_line(size, windows, found, chance, given), flush=True)
    print(f"one check of 50 columns in windows of 10,000 rows: {_cost(chance):.4f} CPU seconds")


def _line(
    size: int,
    windows: int,
    found: dict[str, pd.DataFrame],
    chance: np.random.Generator,
    given: argparse.Namespace,
) -> str:
    alarms: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    large = {name: table for name, table in found.items() if len(table) // 2 >= size}
    wanted = -(-windows // len(large))
    for name, table in large.items():
        split = Split(table, chance)
        if given.export is not None:
            _export(given.export, name, size, split)
        rest, history = list(split.windows(size)), list[Counts]()
        for count in range(wanted):
            if not rest or len(history) >= LONGEST_HISTORY + 4:
                split = Split(table, chance)
                rest, history = list(split.windows(size)), []
            window = rest.pop()
            history.append(split.count(window))
            levels = Levels.for_budget(0.1, given.a_month, TESTS_OF_A_FEATURE * len(table.columns))
            findings = examine(split.reference, history[-LONGEST_HISTORY:], levels)
            asked["this rule"] += 1
            alarms["this rule"] += any(finding.alarms for finding in findings)
            if count < THUMB_WINDOWS:
                asked["thumb"] += 1
                alarms["p"] += any(p < 0.05 for p in p_values(split.training, window))
                alarms["PSI"] += any(psi > 0.2 for psi in psis_of(split, history[-1]))
    return (
        f"| {size:,} | {asked['this rule']:,} over {', '.join(large)} | {alarms['this rule']} "
        f"| {alarms['p']} of {asked['thumb']} | {alarms['PSI']} of {asked['thumb']} |"
    )


def p_values(training: pd.DataFrame, window: pd.DataFrame) -> list[float]:
    """Kolmogorov and Smirnov for numbers, chi-square for text: as most dashboards do it."""
    found = []
    for name in window.columns:
        was, now = training[name].dropna(), window[name].dropna()
        if not len(now):
            continue
        if training[name].dtype != object:
            found.append(float(stats.ks_2samp(was, now).pvalue))
        else:
            both = pd.concat([was.value_counts(), now.value_counts()], axis=1).fillna(0)
            found.append(float(stats.chi2_contingency(both.to_numpy()).pvalue))
    return found


def psis_of(split: Split, counts: Counts) -> list[float]:
    """PSI over the same bins, with the customary 0.0001 for an empty bin."""
    found = []
    for name, found_counts in counts.features.items():
        was = np.array(split.reference.features[name].counts.bins, dtype=np.float64)
        now = np.array(found_counts.bins, dtype=np.float64)
        if now.sum() and len(now) > 1:
            old, new = (np.maximum(c / c.sum(), 1e-4) for c in (was, now))
            found.append(float(((new - old) * np.log(new / old)).sum()))
    return found


def _export(folder: Path, name: str, size: int, split: Split) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    split.training.to_csv(folder / f"{name}-{size}-training.csv", index=False)
    windows = [window for window, _ in zip(split.windows(size), range(THUMB_WINDOWS), strict=False)]
    pd.concat(windows).to_csv(folder / f"{name}-{size}-windows.csv", index=False)


def _cost(chance: np.random.Generator) -> float:
    """Return the CPU seconds of holding 16 windows of 50 columns against their reference."""
    table = pd.DataFrame({f"c{i}": chance.normal(size=60_000) for i in range(50)})
    split = Split(table, chance)
    levels = Levels.for_budget(0.1, 720, TESTS_OF_A_FEATURE * 50)
    history = [split.count(window) for window in split.windows(10_000)] * 4
    begun = time.process_time()
    for _ in range(10):
        examine(split.reference, history, levels)
    return (time.process_time() - begun) / 10


if __name__ == "__main__":
    main()
