"""Rows of a request, read by the contract: validated, mended by its policies, or refused.

A row that the contract takes as it is costs one pass of a decoder compiled from the contract. Any
other row is read again in Python, value by value, which names each fault and applies the policies.
Both readings agree on every row: the fast one takes nothing that the slow one would change.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract, Feature
from model_service.contract.value_check import (
    LARGEST_INTEGER,
    Cell,
    Fault,
    RefusedValueError,
    RowWarning,
    check_value,
    pointer_to,
)

__all__ = ["BodyError", "Columns", "Fault", "ReadRows", "RowReader", "RowValues", "RowWarning"]

RowValues = tuple[Cell, ...]
"""The values of one accepted row, in the order of the contract's features."""
Columns = dict[str, NDArray[Any]]
"""A column per feature: float64 (missing is NaN), text as objects (missing is ""),
datetime64[us] in UTC (missing is NaT), and float64 of shape (rows, length) for a vector."""

LONGEST_ENTITY = 256
MOST_UNKNOWN_FIELDS = 20
"""Of a row, that are named; more of them are treated alike and not named."""
_BODY_FIELDS = ("rows", "entity")


class BodyError(Exception):
    """A body that holds no readable rows at all."""

    def __init__(self, code: str, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pointer = pointer


class ReadRows(msgspec.Struct, gc=False):
    """The rows of one request after reading.

    `values[i]` is the accepted row that stood at `positions[i]` of the request; `warnings` and
    `faults` are by position. Each of the `count` rows is either accepted or has faults.
    """

    count: int
    positions: Sequence[int]
    values: list[RowValues]
    warnings: dict[int, tuple[RowWarning, ...]]
    faults: dict[int, tuple[Fault, ...]]


class RowReader:
    """Reads rows for one contract. Made once per loaded version; safe to share between requests."""

    def __init__(self, contract: Contract, rows_limit: int = 10_000) -> None:
        self.contract = contract
        self.rows_limit = rows_limit
        self._names = frozenset(contract.feature_names)
        self._columns = [(f.name, _column_builder(f)) for f in contract.features]
        row = _strict_row(contract)
        self._strict_row = msgspec.json.Decoder(row) if row else None
        self._strict_body = msgspec.json.Decoder(_strict_body(row)) if row else None

    def read_body(self, body: bytes) -> tuple[ReadRows, str | None]:
        """Read `{"rows": [...], "entity": "..."}` and return the rows and the entity.

        Raises:
            BodyError: the body is no such object, or has no rows or too many of them.
        """
        if self._strict_body is not None:
            try:
                decoded = self._strict_body.decode(body)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                pass
            else:
                self._check_count(len(decoded.rows))
                values = list(map(msgspec.structs.astuple, decoded.rows))
                return ReadRows(len(values), range(len(values)), values, {}, {}), decoded.entity
        return self._read_leniently(body)

    def rows_as_sent(self, body: bytes, positions: Iterable[int]) -> dict[int, object]:
        """Return rows of a body that was read before, as the caller sent them."""
        raw, _ = _envelope(body)
        return {position: _decode(raw[position]) for position in positions}

    def read_rows(self, rows: Sequence[object]) -> ReadRows:
        """Read rows that are Python objects already, such as those of a table or a golden file."""
        read = ReadRows(len(rows), [], [], {}, {})
        for position, row in enumerate(rows):
            self._read_row(row, position, read)
        return read

    def columns(self, values: Sequence[RowValues]) -> Columns:
        """Turn accepted rows into a column per feature, as `features()` takes them."""
        cells = list(itertools.chain.from_iterable(values))
        width = len(self._columns)  # a step through all cells is quicker than zip() on the rows
        return {name: build(cells[at::width]) for at, (name, build) in enumerate(self._columns)}

    def _check_count(self, count: int) -> None:
        if count == 0:
            raise BodyError("empty_rows", 'Send at least one row in "rows".', "/rows")
        if count > self.rows_limit:
            raise BodyError(
                "too_many_rows",
                f"{count} rows were sent; at most {self.rows_limit} are answered in one request. "
                "Send them in several.",
                "/rows",
            )

    def _read_leniently(self, body: bytes) -> tuple[ReadRows, str | None]:
        raw_rows, entity = _envelope(body)
        self._check_count(len(raw_rows))
        read = ReadRows(len(raw_rows), [], [], {}, {})
        for position, raw in enumerate(raw_rows):
            if self._strict_row is not None:
                try:
                    clean = self._strict_row.decode(raw)
                except (msgspec.MsgspecError, UnicodeError, RecursionError):
                    pass
                else:
                    _accept(read, position, msgspec.structs.astuple(clean))
                    continue
            try:
                row = _decode(raw)
            except ValueError as error:
                read.faults[position] = (Fault("", "invalid_json", str(error)),)
                continue
            self._read_row(row, position, read)
        return read, entity

    def _read_row(self, row: object, position: int, read: ReadRows) -> None:
        if not isinstance(row, dict):
            message = "A row must be an object with a field for each feature."
            read.faults[position] = (Fault("", "not_an_object", message),)
            return
        warnings: list[RowWarning] = []
        faults: list[Fault] = []
        cells: list[Cell] = []
        for feature in self.contract.features:
            try:
                cells.append(check_value(feature, row.get(feature.name), warnings))
            except RefusedValueError as refusal:
                faults.append(refusal.fault)
        self._check_names(row, warnings, faults)
        if faults:
            read.faults[position] = tuple(faults)
            return
        if warnings:
            read.warnings[position] = tuple(warnings)
        _accept(read, position, tuple(cells))

    def _check_names(
        self, row: Mapping[Any, object], warnings: list[RowWarning], faults: list[Fault]
    ) -> None:
        unknown = 0
        for name in row:
            if name in self._names:
                continue
            unknown += 1
            if unknown > MOST_UNKNOWN_FIELDS:  # a sentence for each of a million costs a gigabyte
                break
            shown = str(name)[:80]
            if self.contract.unknown_fields == "reject":
                message = f"{shown!r} is not a feature of this model; leave it out."
                faults.append(Fault(pointer_to(shown), "unknown_field", message))
            else:
                message = f"{shown!r} is not a feature of this model and was ignored."
                warnings.append(RowWarning(shown, "unknown_field", "ignore", message))


def _accept(read: ReadRows, position: int, values: RowValues) -> None:
    read.positions.append(position)  # type: ignore[attr-defined]
    read.values.append(values)


def _envelope(body: bytes) -> tuple[list[msgspec.Raw], str | None]:
    """Return the undecoded rows and the entity of a body."""
    try:
        body.decode("utf-8")
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UnicodeDecodeError as error:
        message = f"The body is not UTF-8 at byte {error.start}."
        raise BodyError("invalid_json", message) from None
    except RecursionError:
        raise BodyError("invalid_json", "The body is nested too deeply.") from None
    except msgspec.ValidationError:
        message = 'The body must be an object such as {"rows": [{…}]}.'
        raise BodyError("not_an_object", message) from None
    except msgspec.MsgspecError as error:
        raise BodyError("invalid_json", f"The body is not JSON: {error}.") from None
    for name in fields:
        if name not in _BODY_FIELDS:
            shown = name[:80]
            message = f'{shown!r} is not a field of a request: send "rows", and "entity" if wanted.'
            raise BodyError("unknown_field", message, pointer_to(shown))
    return _raw_rows(fields), _entity(fields)


def _raw_rows(fields: Mapping[str, msgspec.Raw]) -> list[msgspec.Raw]:
    if "rows" not in fields:
        raise BodyError("missing_rows", 'The body has no "rows": send {"rows": [{…}]}.', "/rows")
    try:
        return msgspec.json.decode(fields["rows"], type=list[msgspec.Raw])
    except msgspec.MsgspecError:
        raise BodyError("wrong_type", '"rows" must be a list of rows.', "/rows") from None


def _entity(fields: Mapping[str, msgspec.Raw]) -> str | None:
    try:
        entity = msgspec.json.decode(fields.get("entity", b"null"), type=str | None)
    except (msgspec.MsgspecError, UnicodeError):
        entity = " " * (LONGEST_ENTITY + 1)
    if entity is not None and len(entity) > LONGEST_ENTITY:
        message = f'"entity" must be a string of at most {LONGEST_ENTITY} characters.'
        raise BodyError("wrong_type", message, "/entity")
    return entity


def _decode(raw: msgspec.Raw) -> object:
    """Decode a row whatever it holds.

    Raises:
        ValueError: it cannot be decoded at all; the text says why.
    """
    try:
        return msgspec.json.decode(raw)
    except RecursionError:
        raise ValueError("The row is nested too deeply.") from None
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        # The standard library takes 1e999 as infinity, so that the fault can name its field.
        row: object = json.loads(bytes(raw))
        json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("The row holds text or numbers that JSON cannot carry.") from None
    return row


def _strict_row(contract: Contract) -> type[msgspec.Struct] | None:
    """Return a struct that decodes only rows on which no policy acts; None if none can."""
    fields: list[tuple[str, Any, Any]] = []
    for index, feature in enumerate(contract.features):
        kind = _strict_type(feature)
        if kind is None:
            return None
        fields.append((f"f{index}", kind, msgspec.field(name=feature.name)))
    # Ignored fields are warned of, so that the strict reading refuses them under either rule.
    return msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False)


def _strict_body(row: type[msgspec.Struct]) -> type[Any]:
    return msgspec.defstruct(
        "Body",
        [
            ("rows", list[row]),  # type: ignore[valid-type]
            ("entity", Annotated[str, msgspec.Meta(max_length=LONGEST_ENTITY)] | None, None),
        ],
        forbid_unknown_fields=True,
    )


def _strict_type(feature: Feature) -> Any:
    """Return the type that a clean value of `feature` decodes to; None if that cannot be said."""
    bounded = feature.minimum is not None or feature.maximum is not None
    match feature.type:
        case "number":
            return _bounded(float, feature)
        case "integer":
            low = max(_or(feature.minimum, -LARGEST_INTEGER), -LARGEST_INTEGER)
            high = min(_or(feature.maximum, LARGEST_INTEGER), LARGEST_INTEGER)
            return Annotated[int, msgspec.Meta(ge=_ceiling(low), le=_floor(high))]
        case "boolean":
            return bool
        case "category":
            return Literal[feature.categories]
        case "string":
            return Annotated[str, msgspec.Meta(min_length=1, max_length=feature.max_length)]
        case "datetime":
            return None if bounded else Annotated[dt.datetime, msgspec.Meta(tz=True)]
        case "vector":
            length = msgspec.Meta(min_length=feature.length, max_length=feature.length)
            return Annotated[list[_bounded(float, feature)], length]  # type: ignore[misc]


def _bounded(kind: type, feature: Feature) -> Any:
    if feature.minimum is None and feature.maximum is None:
        return kind
    return Annotated[kind, msgspec.Meta(ge=feature.minimum, le=feature.maximum)]  # type: ignore[arg-type]


def _or(bound: Any, otherwise: int) -> Any:
    return otherwise if bound is None else bound


def _ceiling(bound: float) -> int:
    return -int(-bound // 1)


def _floor(bound: float) -> int:
    return int(bound // 1)


def _column_builder(feature: Feature) -> Callable[[Sequence[Any]], NDArray[Any]]:
    if feature.is_text:
        return _text_column
    if feature.type == "datetime":
        return _time_column
    if feature.type == "vector":
        missing = [float("nan")] * (feature.length or 0)

        def vectors(column: Sequence[Any]) -> NDArray[Any]:
            rows = [missing if cell is None else cell for cell in column]
            return np.array(rows, dtype=np.float64).reshape(len(rows), len(missing))

        return vectors
    return _number_column


def _number_column(column: Sequence[Any]) -> NDArray[Any]:
    return np.fromiter(column, np.float64, len(column))


def _text_column(column: Sequence[Any]) -> NDArray[Any]:
    return np.fromiter(["" if cell is None else cell for cell in column], object, len(column))


def _time_column(column: Sequence[Any]) -> NDArray[Any]:
    return np.array([_utc(cell) for cell in column], dtype="datetime64[us]")


def _utc(moment: dt.datetime | None) -> np.datetime64:
    """Return a moment in UTC; NumPy's calendar, unlike Python's, goes on after the year 9999."""
    if moment is None:
        return np.datetime64("NaT", "us")
    local = np.datetime64(moment.replace(tzinfo=None), "us")
    return local - np.timedelta64(moment.utcoffset() or dt.timedelta(), "us")
