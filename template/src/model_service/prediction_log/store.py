"""The prediction log as one store: the same questions to SQLite and to PostgreSQL.

Times are in seconds since 1970, and intervals hold their beginning and not their end. Every method
raises `StoreError` when the database cannot be reached or refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from model_service.prediction_log.database import (
    PREDICTION_COLUMNS,
    Database,
    Execute,
    PredictionColumns,
    StoreError,
)
from model_service.prediction_log.records import (
    Activity,
    GroundTruth,
    GroundTruthOutcome,
    LoggedCounts,
    LoggedRow,
    TruthResult,
)
from model_service.prediction_log.sqlite_database import SqliteDatabase
from model_service.prediction_log.stored_features import json_text

__all__ = ["PredictionStore", "StoreError", "logged_row", "open_store"]

ROWS_AT_ONCE = 2_000
"""Rows that are read or deleted by one statement: nobody waits long for a lock."""
_KEYS = {
    "predictions": "prediction_id",
    "counts": "model, version, window_start, worker",
    "ground_truth": "prediction_id",
    "waiting_truth": "model, key, at",
}
_COLUMNS = ", ".join(f"p.{column}" for column in PREDICTION_COLUMNS)
_decode = msgspec.json.Decoder().decode


def open_store(place: str, root: Path) -> PredictionStore:
    """Return the store at `place`: a `postgresql://` URL, or a folder relative to `root`.

    Nothing is opened yet: what is wrong with the place is said when it is used.

    Raises:
        StoreError: what PostgreSQL needs is not installed.
    """
    if place.startswith(("postgresql://", "postgres://")):
        # An extra: only who has such a log needs its driver.
        from model_service.prediction_log.postgresql_database import PostgresqlDatabase

        return PredictionStore(PostgresqlDatabase(place))
    return PredictionStore(SqliteDatabase(root / place))


class PredictionStore:
    """The prediction log, its counts, the ground truth and the monitor's memory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, rows: Sequence[LoggedRow]) -> None:
        """Add answered rows, all or none; a row whose id is there already is left as it is."""
        self.append_columns([_as_columns(row) for row in rows])

    def append_columns(self, rows: Sequence[PredictionColumns]) -> None:
        """Add rows that are columns already."""
        if rows:
            self._database.append(rows)

    def find(self, prediction_id: str) -> LoggedRow | None:
        """Return the row with this id."""
        sql = f"SELECT {_COLUMNS} FROM predictions p WHERE prediction_id = ?"  # noqa: S608
        found = self._fetch(sql, (prediction_id,))
        return logged_row(found[0]) if found else None

    def truth_of(self, prediction_id: str) -> Any:
        """Return the ground truth of a prediction, as it was corrected last; None without one."""
        sql = """SELECT g.value FROM predictions p JOIN ground_truth g
            ON g.prediction_id = p.truth_id WHERE p.prediction_id = ?"""
        found = self._fetch(sql, (prediction_id,))
        return _decode(found[0][0]) if found else None

    def models_of(self, prediction_ids: Sequence[str]) -> dict[str, str]:
        """Return the model of each prediction that is here."""
        models: dict[str, str] = {}
        for start in range(0, len(prediction_ids), ROWS_AT_ONCE):
            part = prediction_ids[start : start + ROWS_AT_ONCE]
            marks = ", ".join("?" * len(part))
            sql = f"SELECT prediction_id, model FROM predictions WHERE prediction_id IN ({marks})"  # noqa: S608
            models.update(self._fetch(sql, part))
        return models

    def rows(
        self,
        model: str,
        version: str | None,
        since: float,
        until: float,
        limit: int | None = None,
    ) -> Iterator[LoggedRow]:
        """Yield the rows of a version (None: of all) in the order of time.

        With `limit`, only the last so many of them.
        """
        if limit is None:
            for found in self._by_time("", "", model, version, since, until):
                yield logged_row(found)
            return
        sql, parameters = _selection(model, version, since, until)
        newest = self._fetch(
            f"SELECT {_COLUMNS} FROM predictions p {sql} ORDER BY p.at DESC LIMIT ?",  # noqa: S608
            (*parameters, limit),
        )
        for found in reversed(newest):
            yield logged_row(found)

    def joined(
        self, model: str, version: str | None, since: float, until: float
    ) -> Iterator[tuple[LoggedRow, Any]]:
        """Yield the rows whose ground truth is known, with it, by the time of prediction."""
        self._match_waiting(model)
        join = "JOIN ground_truth g ON g.prediction_id = p.truth_id"
        for found in self._by_time(", g.value", join, model, version, since, until):
            yield logged_row(found[:-1]), _decode(found[-1])

    def activity(self, since: float, until: float) -> list[Activity]:
        """Return which versions answered rows, how many and when."""
        found = self._fetch(
            """SELECT model, version, COUNT(*), MIN(at), MAX(at) FROM predictions
            WHERE at >= ? AND at < ? GROUP BY model, version ORDER BY model, version""",
            (since, until),
        )
        return [Activity(*columns) for columns in found]

    def last_seen(self, model: str, version: str) -> float | None:
        """Return when a version answered its last row that is still here."""
        sql = "SELECT MAX(at) FROM predictions WHERE model = ? AND version = ?"
        found: float | None = self._fetch(sql, (model, version))[0][0]
        return found

    def truth_seen(
        self, model: str, version: str, due: float
    ) -> tuple[int, int, int, float | None, float | None]:
        """Return of a version's rows: how many have ground truth; how many were answered before
        `due`, and how many of those have it; the mean seconds from answer to truth; and when the
        last truth was received."""
        found: tuple[int, int, int, float | None, float | None] = self._fetch(
            """SELECT COUNT(g.value), COALESCE(SUM(CASE WHEN p.at < ? THEN 1 ELSE 0 END), 0),
            COUNT(CASE WHEN p.at < ? THEN g.value END), AVG(g.received_at - p.at),
            MAX(g.received_at) FROM predictions p
            LEFT JOIN ground_truth g ON g.prediction_id = p.truth_id
            WHERE p.model = ? AND p.version = ?""",
            (due, due, model, version),
        )[0]
        return found

    def add_counts(self, counts: Sequence[LoggedCounts]) -> None:
        """Keep counts; they replace those of the same worker for the same minute."""
        with self._database.transaction() as run:
            for one in counts:
                run(
                    """INSERT INTO counts VALUES (?, ?, ?, ?, ?)
                    ON CONFLICT (model, version, window_start, worker)
                    DO UPDATE SET counts = excluded.counts""",
                    (one.model, one.version, one.window_start, one.worker, one.counts),
                )

    def counts(
        self, model: str, version: str, since: float, until: float
    ) -> Iterator[LoggedCounts]:
        """Yield the counts of the minutes that begin in an interval, in the order of time."""
        found = self._fetch(
            """SELECT model, version, window_start, worker, counts FROM counts
            WHERE model = ? AND version = ? AND window_start >= ? AND window_start < ?
            ORDER BY window_start, worker""",
            (model, version, since, until),
        )
        for *_, window_start, worker, blob in found:
            yield LoggedCounts(model, version, window_start, worker, bytes(blob))

    def add_ground_truth(self, truths: Sequence[GroundTruth]) -> GroundTruthOutcome:
        """Keep what really happened; what came last for a prediction counts.

        A truth whose prediction is not here is kept as well, and joined once it comes.
        """
        results: list[TruthResult] = []
        for start in range(0, len(truths), ROWS_AT_ONCE):
            with self._database.transaction() as run:
                results += [_keep(run, truth) for truth in truths[start : start + ROWS_AT_ONCE]]
        return GroundTruthOutcome(tuple(results))

    def get_state(self, name: str) -> bytes | None:
        """Return what was remembered under a name."""
        found = self._fetch("SELECT value FROM state WHERE name = ?", (name,))
        return bytes(found[0][0]) if found else None

    def set_state(self, name: str, value: bytes) -> None:
        """Remember something under a name, in the place of what was there."""
        with self._database.transaction() as run:
            run(
                """INSERT INTO state VALUES (?, ?)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
                (name, value),
            )

    def swap_state(self, name: str, before: bytes | None, after: bytes) -> bool:
        """Remember `after` in the place of `before` (None: nothing); return whether that was there.

        Of several processes that try at once, one succeeds.
        """
        with self._database.transaction() as run:
            if before is None:
                sql = "INSERT INTO state VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
                return run(sql, (name, after)).rowcount == 1
            sql = "UPDATE state SET value = ? WHERE name = ? AND value = ?"
            return run(sql, (after, name, before)).rowcount == 1

    def purge(
        self, before: float, megabytes: float, answers_before: Mapping[str, float] | None = None
    ) -> int:
        """Delete what is older than `before`, then the oldest until `megabytes` are left.

        Of the models in `answers_before` only the features, the entity and the key are erased
        then; the answers wait for late ground truth until that time. Return the deleted rows.
        """
        deleted = 0
        for model in self.models():
            answers = min((answers_before or {}).get(model, before), before)
            deleted += self._delete("predictions", "model = ? AND at < ?", model, answers)
            if answers < before:
                self._erase(model, before)
        self._forget(min([before, *(answers_before or {}).values()]), before)
        if self._database.bytes_used() > megabytes * 1e6:
            self._forget_unmatched()
        while self._database.bytes_used() > megabytes * 1e6:
            cut = self._end_of_the_oldest_tenth()
            if cut is None:
                break
            for model in self.models():  # the index is by model
                deleted += self._delete("predictions", "model = ? AND at < ?", model, cut)
            self._forget(cut, cut)
            self._forget_unmatched()
        self._database.reclaim()
        return deleted

    def close(self) -> None:
        """Close the connection to the database."""
        self._database.close()

    def _fetch(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        return self._database.fetch(sql, parameters)

    def _by_time(
        self,
        more: str,
        join: str,
        model: str,
        version: str | None,
        since: float,
        until: float,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows in batches, so that no transaction stays open while they are looked at."""
        where, parameters = _selection(model, version, since, until)
        sql = f"""SELECT {_COLUMNS}{more} FROM predictions p {join} {where}
            AND (p.at, p.prediction_id) > (?, ?)
            ORDER BY p.at, p.prediction_id LIMIT {ROWS_AT_ONCE}"""  # noqa: S608
        after: tuple[float, str] = (since, "")
        while True:
            found = self._fetch(sql, (*parameters, *after))
            yield from found
            if len(found) < ROWS_AT_ONCE:
                return
            after = (found[-1][2], found[-1][0])

    def _match_waiting(self, model: str) -> None:
        """Give truths that were told by key to the predictions that came after them."""
        sql = f"""SELECT * FROM (SELECT w.key, w.at, w.value, w.received_at, (
            SELECT p.prediction_id FROM predictions p WHERE p.model = w.model AND p.key = w.key
            AND p.at <= w.at AND p.truth_id = p.prediction_id ORDER BY p.at DESC LIMIT 1) AS found
            FROM waiting_truth w WHERE w.model = ?) AS waiting
            WHERE found IS NOT NULL LIMIT {ROWS_AT_ONCE}"""  # noqa: S608
        while matched := self._fetch(sql, (model,)):
            with self._database.transaction() as run:
                for key, at, value, received_at, found in matched:
                    waits = """DELETE FROM waiting_truth
                        WHERE model = ? AND key = ? AND at = ? AND value = ?"""
                    if run(waits, (model, key, at, value)).rowcount:  # not corrected meanwhile
                        _put(run, found, value, at, received_at)

    def models(self) -> list[str]:
        """Return the models of which there are rows."""
        return [model for (model,) in self._fetch("SELECT DISTINCT model FROM predictions", ())]

    def _delete(self, table: str, which: str, *parameters: Any) -> int:
        """Delete rows in steps, so that nobody waits long for a lock; return how many."""
        key, deleted = _KEYS[table], 0
        sql = f"""DELETE FROM {table} WHERE ({key}) IN (
            SELECT {key} FROM {table} WHERE {which} LIMIT {ROWS_AT_ONCE})"""  # noqa: S608
        while True:
            with self._database.transaction() as run:
                step = run(sql, parameters).rowcount
            deleted += step
            if step < ROWS_AT_ONCE:
                return deleted

    def _erase(self, model: str, before: float) -> None:
        """Erase features in steps; rows that have any are looked for while nobody waits."""
        sql = f"""SELECT prediction_id, at FROM predictions WHERE model = ? AND at >= ? AND at < ?
            AND (used IS NOT NULL OR received IS NOT NULL OR entity IS NOT NULL OR key IS NOT NULL)
            ORDER BY at LIMIT {ROWS_AT_ONCE}"""  # noqa: S608
        since = 0.0
        while found := self._fetch(sql, (model, since, before)):
            ids, since = [prediction_id for prediction_id, _ in found], found[-1][1]
            with self._database.transaction() as run:
                run(
                    f"""UPDATE predictions SET received = NULL, used = NULL, entity = NULL,
                    key = NULL WHERE prediction_id IN ({", ".join("?" * len(ids))})""",  # noqa: S608
                    ids,
                )

    def _forget(self, truths_before: float, counts_before: float) -> None:
        self._delete("counts", "window_start < ?", counts_before)
        for table in ("ground_truth", "waiting_truth"):
            self._delete(table, "received_at < ?", truths_before)

    def _forget_unmatched(self) -> None:
        """Delete ground truth of predictions that nobody knows: it must not cost those that are."""
        known = "SELECT 1 FROM predictions p WHERE p.prediction_id = ground_truth.prediction_id"
        self._delete("ground_truth", f"NOT EXISTS ({known})")
        self._delete("waiting_truth", "1 = 1")

    def _end_of_the_oldest_tenth(self) -> float | None:
        """Return the time before which a tenth of what is kept lies; None if nothing is."""
        times = self._fetch(
            """SELECT MIN(at), MAX(at) FROM predictions
            UNION ALL SELECT MIN(window_start), MAX(window_start) FROM counts""",
            (),
        )
        kept = [time for ends in times for time in ends if time is not None]
        return min(kept) + max(1.0, (max(kept) - min(kept)) / 10) if kept else None


def _selection(
    model: str, version: str | None, since: float, until: float
) -> tuple[str, list[Any]]:
    where, parameters = "WHERE p.model = ? AND p.at >= ? AND p.at < ?", [model, since, until]
    return (
        (where, parameters)
        if version is None
        else (
            f"{where} AND p.version = ?",
            [*parameters, version],
        )
    )


def _keep(run: Execute, truth: GroundTruth) -> TruthResult:
    value = json_text(truth.value)
    if truth.prediction_id is not None:
        target: str | None = truth.prediction_id
        sql = "SELECT 1 FROM predictions WHERE prediction_id = ?"
        is_known = bool(run(sql, (target,)).fetchall())
    else:
        assert truth.model is not None
        assert truth.key is not None
        target = _predicted_for(run, truth.model, truth.key, truth.at)
        is_known = target is not None
    if target is None:
        run(
            """INSERT INTO waiting_truth VALUES (?, ?, ?, ?, ?) ON CONFLICT (model, key, at)
            DO UPDATE SET value = excluded.value, received_at = excluded.received_at""",
            (truth.model, truth.key, truth.at, value, truth.received_at),
        )
        return "unknown"
    before = run("SELECT value FROM ground_truth WHERE prediction_id = ?", (target,)).fetchall()
    if not before or before[0][0] != value:
        _put(run, target, value, truth.at, truth.received_at)
    if not is_known:
        return "unknown"
    if not before:
        return "matched"
    return "repeated" if before[0][0] == value else "corrected"


def _put(run: Execute, prediction_id: str, value: str, at: float, received_at: float) -> None:
    run(
        """INSERT INTO ground_truth VALUES (?, ?, ?, ?) ON CONFLICT (prediction_id)
        DO UPDATE SET value = excluded.value, at = excluded.at,
        received_at = excluded.received_at""",
        (prediction_id, value, at, received_at),
    )


def _predicted_for(run: Execute, model: str, key: str, at: float) -> str | None:
    """Return the last answer that a caller got for a key up to a time."""
    found = run(
        """SELECT prediction_id FROM predictions WHERE model = ? AND key = ? AND at <= ?
        AND truth_id = prediction_id ORDER BY at DESC LIMIT 1""",
        (model, key, at),
    ).fetchall()
    return found[0][0] if found else None


def _as_columns(row: LoggedRow) -> PredictionColumns:
    # What no policy touched is stored once.
    is_same = row.received is row.used or row.received == row.used
    received = None if is_same else row.received
    return (
        row.prediction_id,
        row.request_id,
        row.at,
        row.model,
        row.version,
        row.alias,
        row.entity,
        None if received is None else json_text(received),
        None if row.used is None else json_text(row.used),
        json_text(row.warnings) if row.warnings else None,
        json_text(row.value),
        None if row.probabilities is None else json_text(row.probabilities),
        row.seconds,
        row.key,
        row.shadow_of or row.prediction_id,
    )


def logged_row(columns: PredictionColumns) -> LoggedRow:
    """Return the row that stands in these columns."""
    received, used, warnings, value, probabilities = (
        None if text is None else _decode(text) for text in columns[7:12]
    )
    return LoggedRow(
        prediction_id=columns[0],
        request_id=columns[1],
        at=columns[2],
        model=columns[3],
        version=columns[4],
        alias=columns[5],
        entity=columns[6],
        received=used if received is None else received,
        used=used,
        warnings=tuple(tuple(warning) for warning in warnings or ()),
        value=value,
        probabilities=probabilities,
        seconds=columns[12],
        key=columns[13],
        shadow_of=columns[14] if columns[14] != columns[0] else None,
    )
