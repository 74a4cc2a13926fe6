"""The prediction log in PostgreSQL: for a service on several machines."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from model_service.prediction_log.database import (
    PREDICTION_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    Cursor,
    Execute,
    StoreError,
)
from model_service.repository import how_to_install

try:
    import psycopg
except ImportError as missing:
    raise StoreError(
        f"A prediction log in PostgreSQL needs psycopg: {how_to_install('postgresql')}."
    ) from missing

URL = re.compile(
    r"\w+://([^:/?#@]*(:(?P<password>[^/?#@]*))?@)?(?P<place>[^?#@]*)([?#][^@]*)?", re.DOTALL
)
SCHEMA_LOCK = 7_236_011_405
"""Of all processes that start at once, one makes the tables."""
BYTES_BESIDE_A_ROW = {"predictions": 150, "counts": 0, "ground_truth": 60, "waiting_truth": 60}
"""Its header and its entries in the indexes, about."""
_COLUMNS = ", ".join(PREDICTION_COLUMNS)
_COPY = f"COPY arriving ({_COLUMNS}) FROM STDIN"
_TAKE_OVER = f"""INSERT INTO predictions ({_COLUMNS}) SELECT {_COLUMNS} FROM arriving
    ON CONFLICT (prediction_id) DO NOTHING"""  # noqa: S608


class PostgresqlDatabase:
    """One connection to the database of a `postgresql://` URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._parts = URL.fullmatch(url)
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        """Return the rows of a question, without keeping writers waiting."""
        with self._connected() as connection:
            rows: list[Any] = connection.execute(_own(sql), parameters).fetchall()
            return rows

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        """Run statements that all take effect, or none."""
        with self._connected() as connection, connection.transaction():

            def run(sql: str, parameters: Sequence[Any]) -> Cursor:
                cursor: Cursor = connection.execute(_own(sql), parameters)
                return cursor

            yield run

    def append(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows of predictions in one transaction; those that are there already are left."""
        with self._connected() as connection, connection.transaction():
            with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                for row in rows:
                    copy.write_row(row)
            connection.execute(_TAKE_OVER)

    def bytes_used(self) -> int:
        """Return about how much the rows take; PostgreSQL keeps the room of what was deleted for
        what comes, so that the size of its files does not tell."""
        sizes = " + ".join(
            f"(SELECT COALESCE(SUM(pg_column_size(t.*) + {beside}), 0) FROM {table} t)"  # noqa: S608
            for table, beside in BYTES_BESIDE_A_ROW.items()
        )
        found = self.fetch(f"SELECT {sizes}", ())
        return int(found[0][0])

    def reclaim(self) -> None:
        """Leave that to PostgreSQL, which vacuums by itself."""

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with self._lock:
            if self._parts is None:
                raise StoreError(
                    "The prediction log has no URL such as postgresql://user:password@host/database"
                    " in stores.prediction_log. In a password write @ as %40, / as %2F, ? as %3F "
                    "and # as %23."
                )
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = _connect(self._url)
                yield self._connection
            except psycopg.DataError:
                raise
            except psycopg.Error as error:
                self.close()  # the next one who asks tries to connect again
                reason, password = " ".join(str(error).split()), self._parts["password"]
                for secret in (password, unquote(password)) if password else ():
                    reason = reason.replace(secret, "***")
                place = self._parts["place"] or "the local server"
                raise StoreError(f"The prediction log on {place} fails: {reason}") from error


def _own(sql: str) -> Any:
    return sql.replace("?", "%s")


def _connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=5,
        tcp_user_timeout=30_000,  # milliseconds: a network that swallows everything is an error
        application_name="model_service",
    )
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
            for statement in SCHEMA:
                connection.execute(
                    statement.format(real="DOUBLE PRECISION", bytes="BYTEA").encode()
                )
            _check_schema(connection)
            connection.execute(
                "CREATE TEMP TABLE arriving (LIKE predictions) ON COMMIT DELETE ROWS"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    connection.execute(
        "INSERT INTO state VALUES ('schema', %s) ON CONFLICT DO NOTHING",
        (b"%d" % SCHEMA_VERSION,),
    )
    found = connection.execute("SELECT value FROM state WHERE name = 'schema'").fetchone()
    if found is not None and int(bytes(found[0])) > SCHEMA_VERSION:
        raise StoreError(
            f"The prediction log was made by a newer version of this service (schema "
            f"{bytes(found[0]).decode()}, known here {SCHEMA_VERSION}). Update the service, or "
            "name another database in stores.prediction_log."
        )
