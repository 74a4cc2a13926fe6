"""The prediction log in a SQLite file: several processes of one machine may write to it at once.

With a write-ahead log a process that is killed leaves what it has committed, and nothing by halves.
It must lie on a local disk: SQLite's locks do not hold on network file systems.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Any

from model_service.prediction_log.database import (
    PREDICTION_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    Execute,
    StoreError,
)

FILE = "predictions.sqlite"
SECONDS_TO_WAIT_FOR_OTHERS = 10.0
BYTES_A_PAGE = 16_384
"""In a page of SQLite's default, 4,096, a row of 50 features leaves much room empty, and a third of
what writing it costs was spent on the many pages."""
PAGES_AT_ONCE = 500
ROWS_A_STATEMENT = 100
"""The interpreter's lock is given up and taken again for each statement: with a row in each, a busy
service would spend more time on that than on writing."""


@lru_cache(64)
def _insert(shared: tuple[bool, ...], rows: int) -> str:
    """Return a statement whose first parameters are the columns that all rows share."""
    following = count(sum(shared) + 1)

    def row() -> str:
        first = count(1)
        places = (next(first if is_shared else following) for is_shared in shared)
        return f"({', '.join(f'?{place}' for place in places)})"

    return (
        f"INSERT INTO predictions VALUES {', '.join(row() for _ in range(rows))} "  # noqa: S608
        "ON CONFLICT (prediction_id) DO NOTHING"
    )


def _insertion(rows: Sequence[tuple[Any, ...]]) -> tuple[str, list[Any]]:
    """Return a statement and its parameters. To hand each of them over costs more than to store it,
    and many columns (the model, the version, what is not there) are the same in all rows."""
    columns = list(zip(*rows, strict=True))
    shared = tuple(column.count(column[0]) == len(rows) for column in columns)
    parameters = [column[0] for column, is_shared in zip(columns, shared, strict=True) if is_shared]
    own = [column for column, is_shared in zip(columns, shared, strict=True) if not is_shared]
    return _insert(shared, len(rows)), [*parameters, *chain.from_iterable(zip(*own, strict=True))]


_INSERT_ONE = _insert((False,) * len(PREDICTION_COLUMNS), 1)


class SqliteDatabase:
    """One file in `folder`, which is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        """Return the rows of a question, without keeping writers waiting."""
        with self._connected() as connection:
            return connection.execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        """Run statements that all take effect, or none."""
        with self._writing() as connection:
            yield connection.execute

    def append(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows of predictions in one transaction; those that are there already are left."""
        whole = len(rows) - len(rows) % ROWS_A_STATEMENT
        with self._writing() as connection:
            for start in range(0, whole, ROWS_A_STATEMENT):
                connection.execute(*_insertion(rows[start : start + ROWS_A_STATEMENT]))
            connection.executemany(_INSERT_ONE, rows[whole:])

    def bytes_used(self) -> int:
        """Return how much of the file the rows take; what was deleted does not count."""
        pages, free, size = (
            self.fetch(f"PRAGMA {name}", ())[0][0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def reclaim(self) -> None:
        """Make the file smaller by what was deleted."""
        free = self.fetch("PRAGMA freelist_count", ())[0][0]
        # In steps, since others wait for each of them to end; as a script, since of a statement
        # without columns Python does only the first page.
        for _ in range(0, free, PAGES_AT_ONCE):
            with self._connected() as connection:
                connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
        self.fetch("PRAGMA wal_checkpoint(TRUNCATE)", ())

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._open()
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"The prediction log {self.path} fails: {error}.") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A full disk has ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and not self.path.exists():
            self.close()  # somebody deleted the file: what is written now would be lost
        if self._connection is None:
            self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path,
                timeout=SECONDS_TO_WAIT_FOR_OTHERS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                _prepare(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_OTHERS
    connection.execute(f"PRAGMA page_size = {BYTES_A_PAGE}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:  # this statement does not wait for others by itself
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")  # what retention deletes is overwritten
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer version of this service (schema {found}, known here "
            f"{SCHEMA_VERSION}). Update the service, or name another folder in "
            "stores.prediction_log."
        )
    if found == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement.format(real="REAL", bytes="BLOB"))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
