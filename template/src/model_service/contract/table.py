"""A table of training data against the contract: the same reading that serving does."""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from model_service.contract.contract import Contract
from model_service.contract.rows import ReadRows, RowReader

if TYPE_CHECKING:
    import pandas as pd

_CURES = {
    "missing": "Let on_missing impute or pass, or leave these rows out in load().",
    "unknown_category": "Add the category, let on_unknown pass or map_to, or leave the rows out.",
    "out_of_range": "Widen the range, let on_out_of_range clip or pass, or leave the rows out.",
    "wrong_type": "Correct the type in the contract, or convert the column in load().",
}


class TableCheck(msgspec.Struct):
    """What the contract says of a table: its rows as read, and its problems in words."""

    read: ReadRows
    problems: list[str]


def rows_of(frame: pd.DataFrame, contract: Contract) -> list[dict[str, Any]]:
    """Return the rows of `frame` as a caller would send them in JSON.

    NaN, NaT and None become None; NumPy scalars become Python's; a timestamp without an offset is
    taken as UTC. Columns that are no features are left out, and absent features stay absent.
    """
    names = [name for name in contract.feature_names if name in frame.columns]
    columns = [[as_json(value) for value in frame[name].tolist()] for name in names]
    if not columns:
        return [{} for _ in range(len(frame))]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def check_table(
    frame: pd.DataFrame, contract: Contract, reader: RowReader | None = None
) -> TableCheck:
    """Check training data against the contract: every feature of every row, and the target.

    `problems` is empty when all rows would have been answered by the service and every row has a
    target that the contract's output allows.
    """
    checked = check_rows(frame, contract, reader)
    return TableCheck(checked.read, checked.problems + _target_problems(frame, contract))


def check_rows(
    frame: pd.DataFrame, contract: Contract, reader: RowReader | None = None
) -> TableCheck:
    """Check rows against the contract, whatever their target is or whether there is one."""
    reader = reader or RowReader(contract)
    absent = [name for name in contract.feature_names if name not in frame.columns]
    problems = [
        f"{name}: the data has no such column; it has {', '.join(map(str, frame.columns))}. "
        "Load it, or take the feature out of the contract."
        for name in absent
    ]
    read = reader.read_rows(rows_of(frame, contract))
    problems += _fault_problems(read, absent)
    if len(frame) == 0:
        problems.append("The data has no rows: see load().")
    return TableCheck(read, problems)


def as_json(value: Any) -> Any:
    """Return a cell of a table as it would stand in JSON; a missing one is None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dt.datetime):
        if value != value:
            return None
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return aware.isoformat()
    if hasattr(value, "tolist"):
        return as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return None if str(value) in ("<NA>", "NaT") else value


def _fault_problems(read: ReadRows, absent: list[str]) -> list[str]:
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    messages: dict[tuple[str, str], str] = {}
    for position, faults in read.faults.items():
        for fault in faults:
            key = (fault.pointer.removeprefix("/"), fault.code)
            rows[key].append(position)
            messages.setdefault(key, fault.message)
    return [
        f"{name}: {len(positions)} of {read.count} rows are refused ({code}), the first is row "
        f"{positions[0]}: {messages[name, code]} {_CURES.get(code, '')}".strip()
        for (name, code), positions in rows.items()
        if name not in absent
    ]


def _target_problems(frame: pd.DataFrame, contract: Contract) -> list[str]:
    output = contract.output
    if output.name not in frame.columns:
        return [
            (
                f"{output.name}: the data has no column for the output; it has "
                f"{', '.join(map(str, frame.columns))}. Name the output after the target's column."
            )
        ]
    target = frame[output.name]
    missing = int(target.isna().sum())
    problems = []
    if missing:
        problems.append(f"{output.name}: {missing} rows have no target; leave them out in load().")
    if output.type == "class":
        problems += _class_problems({str(value) for value in target.dropna().unique()}, contract)
    return problems


def _class_problems(seen: set[str], contract: Contract) -> list[str]:
    name, declared = contract.output.name, contract.output.classes
    new = [
        f"{name}: the data has the class {label!r}, the contract only {', '.join(declared)}. "
        "Add it to output.classes, or leave its rows out."
        for label in sorted(seen - set(declared))
    ]
    absent = [
        f"{name}: no row has the class {label!r} of the contract. "
        "Take it out of output.classes, or load rows of it."
        for label in sorted(set(declared) - seen)
    ]
    return new + absent
