"""What NannyML or Evidently say of the windows that false_alarms.py or detection.py exported.

    python -m venv /tmp/nannyml && /tmp/nannyml/bin/pip install nannyml==0.13.1
    /tmp/nannyml/bin/python benchmarks/monitoring/libraries.py nannyml DIR
    python -m venv /tmp/evidently && /tmp/evidently/bin/pip install evidently==0.7.23 "pandas<3"
    /tmp/evidently/bin/python benchmarks/monitoring/libraries.py evidently DIR 8

Their defaults are asked: an alarm is any column that drifted. The last number is the most windows
of a table and size, for who has less patience.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

warnings.filterwarnings("ignore")
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"


def nannyml_alarms(training: pd.DataFrame, windows: list[pd.DataFrame], size: int) -> int:
    """Univariate drift of every column, with the thresholds that are the default."""
    import nannyml

    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(training.columns), chunk_size=size
    )
    found = calculator.fit(training).calculate(pd.concat(windows, ignore_index=True))
    table = found.filter(period="analysis").to_df()
    alerts = [column for column in table.columns if column[-1] == "alert"]
    return int(table[alerts].any(axis=1).sum())


def evidently_alarms(training: pd.DataFrame, windows: list[pd.DataFrame], _: int) -> int:
    """Drift of every column by the preset."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    alarms = 0
    for window in windows:
        content: Any = Report([DataDriftPreset()]).run(window, training).dict()
        alarms += any(
            metric["metric_name"].startswith("DriftedColumnsCount") and metric["value"]["count"] > 0
            for metric in content["metrics"]
        )
    return alarms


def main() -> None:
    library, folder = sys.argv[1], Path(sys.argv[2])
    most = int(sys.argv[3]) if len(sys.argv) > 3 else None
    ask = {"nannyml": nannyml_alarms, "evidently": evidently_alarms}[library]
    found: dict[str, list[bool]] = {}
    for path in sorted(folder.glob("*-training.csv")):
        first, second, *case = path.name.removesuffix("-training.csv").split("-")
        # Of detection.py the size comes first, and an alarm in any window is wanted.
        name, size = (second, int(first)) if case else (first, int(second))
        training = pd.read_csv(path)
        later = pd.read_csv(str(path).replace("-training", "-windows"))
        windows = [later.iloc[start : start + size] for start in range(0, len(later), size)][:most]
        begun = time.process_time()
        try:
            alarms: int | str = ask(training, windows, size)
        except Exception as error:  # what a library cannot do is part of the table
            alarms = f"{type(error).__name__}: {error}"[:100]
        if case:
            found.setdefault(f"{size} {name}", []).append(
                not isinstance(alarms, str) and alarms > 0
            )
            continue
        seconds = (time.process_time() - begun) / len(windows)
        print(f"{library} {name} {size}: {alarms} of {len(windows)}, {seconds:.2f} CPU s each")
    for change, results in found.items():
        print(f"{library} {change}: found in {sum(results)} of {len(results)}")


if __name__ == "__main__":
    main()
