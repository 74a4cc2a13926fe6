"""Rows a second that the prediction log takes, in SQLite and in PostgreSQL.

    python benchmarks/monitoring/prediction_log.py [--rows 60000] [--postgresql URL]

Rows have 20 features, of which one was mended in every tenth row, and are appended in batches as
the service does it. Without a URL a PostgreSQL server is started from Debian's package.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "template" / "src")]

from model_service.prediction_log.records import LoggedRow  # noqa: E402
from model_service.prediction_log.store import open_store  # noqa: E402
from tests.platform.postgresql_server import postgresql_server  # noqa: E402

BATCHES = (100, 500, 4000)


def rows_of(count: int) -> list[LoggedRow]:
    """Return rows as a service logs them."""
    rows = []
    for number in range(count):
        used: dict[str, Any] = {f"feature_{i}": i * 1.1 + number % 97 for i in range(18)}
        used |= {"town": "Jena", "kind": "a"}
        mended = number % 10 == 0
        rows.append(
            LoggedRow(
                prediction_id=f"5f1c0a9be2d4-{number:x}",
                request_id=f"5f1c0a9be2d4-{number:x}",
                at=1.7e9 + number / 1000,
                model="churn",
                version="3",
                alias="champion",
                received={**used, "town": None} if mended else used,
                used=used,
                warnings=(("town", "missing", "impute"),) if mended else (),
                value="stays",
                probabilities={"stays": 0.75, "leaves": 0.25},
                seconds=0.0012,
            )
        )
    return rows


def measure(place: str, rows: Sequence[LoggedRow], batch: int) -> tuple[float, float]:
    """Return rows a second, and the CPU microseconds of this process for a row."""
    store = open_store(place, ROOT)
    store.last_seen("churn", "3")  # connects, and makes the tables
    begun, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(rows), batch):
        store.append(rows[start : start + batch])
    wall, spent = time.perf_counter() - begun, time.process_time() - cpu
    store.close()
    return len(rows) / wall, spent / len(rows) * 1e6


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgresql", default="", metavar="URL", help="an empty database")
    given = parser.parse_args()
    rows = rows_of(given.rows)
    print(f"{given.rows} rows, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    print("| store | rows in a batch | rows/s | CPU µs a row, here |")
    print("|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = None if given.postgresql else stack.enter_context(postgresql_server())
        for name in ("SQLite", "PostgreSQL"):
            for batch in BATCHES:
                figures = []
                for round_ in range(given.rounds):
                    place = str(folder / f"{batch}-{round_}")
                    if name == "PostgreSQL":
                        place = server.new_log() if server else given.postgresql
                    figures.append(measure(place, rows, batch))
                rate, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
                print(f"| {name} | {batch:,} | {rate:,.0f} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()
