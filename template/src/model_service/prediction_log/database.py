"""What the prediction log needs of a database, and its schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

SCHEMA_VERSION = 1

PREDICTION_COLUMNS = (
    "prediction_id",
    "request_id",
    "at",
    "model",
    "version",
    "alias",
    "entity",
    "received",
    "used",
    "warnings",
    "value",
    "probabilities",
    "seconds",
    "key",
    "truth_id",
)
"""`truth_id` is the prediction whose ground truth holds for the row: its own, or for a shadow that
of the answer the caller got. Features are one JSON text, so that a contract may change."""
PredictionColumns = tuple[Any, ...]
"""A row as these columns; `store.logged_row` makes a record of it."""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS predictions (
        prediction_id TEXT PRIMARY KEY, request_id TEXT NOT NULL, at {real} NOT NULL,
        model TEXT NOT NULL, version TEXT NOT NULL, alias TEXT, entity TEXT,
        received TEXT, used TEXT, warnings TEXT, value TEXT NOT NULL, probabilities TEXT,
        seconds {real} NOT NULL, key TEXT, truth_id TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (model, at, version)",
    """CREATE INDEX IF NOT EXISTS predictions_by_key ON predictions (model, key, at)
        WHERE key IS NOT NULL""",
    """CREATE TABLE IF NOT EXISTS counts (
        model TEXT NOT NULL, version TEXT NOT NULL, window_start BIGINT NOT NULL,
        worker TEXT NOT NULL, counts {bytes} NOT NULL,
        PRIMARY KEY (model, version, window_start, worker))""",
    """CREATE TABLE IF NOT EXISTS ground_truth (
        prediction_id TEXT PRIMARY KEY, value TEXT NOT NULL, at {real} NOT NULL,
        received_at {real} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS waiting_truth (
        model TEXT NOT NULL, key TEXT NOT NULL, at {real} NOT NULL, value TEXT NOT NULL,
        received_at {real} NOT NULL, PRIMARY KEY (model, key, at))""",
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value {bytes} NOT NULL)",
)


class StoreError(Exception):
    """The prediction log cannot be read or written; says where it is and why."""


class Cursor(Protocol):
    """What a statement returned."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...


Execute = Callable[[str, Sequence[Any]], Cursor]
"""Runs one statement, whose parameters are written `?`."""


class Database(Protocol):
    """A database that any thread may use; it connects when it is used, again if need be."""

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        """Return the rows of a question, without keeping writers waiting."""
        ...

    def transaction(self) -> AbstractContextManager[Execute]:
        """Run statements that all take effect, or none.

        Raises:
            StoreError: the database cannot be reached, or refuses.
        """
        ...

    def append(self, rows: Sequence[PredictionColumns]) -> None:
        """Add rows of predictions in one transaction; those that are there already are left."""
        ...

    def bytes_used(self) -> int:
        """Return how much of the disk the rows take; what was deleted does not count."""
        ...

    def reclaim(self) -> None:
        """Give the space of what was deleted back, as far as that disturbs nobody."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
