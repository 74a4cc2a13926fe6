"""A contract drafted from data, for a person to correct.

What the data shows is filled in, with a comment where a person has to judge; what it cannot show
stands as "?". The draft is always a contract without faults.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from model_service.contract.contract import Contract
from model_service.contract.drafted_feature import (
    DraftedFeature,
    LeftOut,
    date_column,
    draft_feature,
    plain_number,
    present_values,
    readable_range,
)
from model_service.contract.reading import MODEL_NAME, RESERVED_NAMES, parse_contract
from model_service.contract.rows import RowReader
from model_service.contract.table import rows_of
from model_service.contract.value_check import LARGEST_INTEGER

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DraftError", "draft_contract", "read_table"]

MOST_CLASSES = 100
FEW_CLASSES = 20
MOST_NUMBERED_CLASSES = 10
ROWS_FOR_EXAMPLES = 500
MOST_EXAMPLES = 2
UNKNOWN = '"?"'
_HEAD = """\
# yaml-language-server: $schema=../../src/model_service/contract/contract.schema.json
# Drafted from data: correct it, then let others review it. "?" is what no data can tell.
# `contract check` explains faults. What happens to dirty values, feature by feature:
#   on_missing: reject, pass or {impute: value}      on_unknown: reject, pass or {map_to: category}
#   on_out_of_range: reject, clip or pass
"""


class DraftError(Exception):
    """No contract can be drafted from this data; says what to change."""


def draft_contract(data: Path | pd.DataFrame, target: str, name: str) -> str:
    """Return the text of a `contract.yaml` for data in which the column `target` is predicted.

    `data` is a table, or a CSV or Parquet file; its rows without a target are left out. A `name`
    that no model can have is mended.

    Raises:
        DraftError: the data cannot be read, has no such column, or has nothing to learn from.
    """
    whole = read_table(data) if isinstance(data, Path) else data
    _check(whole, target)
    frame = _with_target(whole.reset_index(drop=True), target)
    model = _model_name(name)
    columns = [frame.iloc[:, index] for index in range(frame.shape[1])]
    studied = [draft_feature(column) for column in columns if column.name != target]
    features = [study for study in studied if isinstance(study, DraftedFeature)]
    if not features:
        reasons = "; ".join(f"{study.name}: {study.reason}" for study in studied if study)  # type: ignore[union-attr]
        raise DraftError(f"No column can be a feature. {reasons or 'There is only the target.'}")
    left_out = [study for study in studied if isinstance(study, LeftOut)]
    text = "\n".join(
        [
            _HEAD + f"name: {model}",
            'contract_version: "1.0"  # a change that breaks callers raises the first number',
            f"description: {UNKNOWN}  # what is predicted, for whom, at what moment",
            "unknown_fields: reject  # or ignore",
            "",
            "features:",
            *(line for feature in features for line in _feature_lines(feature)),
            *_left_out_lines(left_out),
            "",
            *_output_lines(present_values(frame[target]), missing=len(whole) - len(frame)),
            "",
        ]
    )
    contract = parse_contract(text, Path(model) / "contract.yaml", model=model)
    return text + _example_text(frame, contract)


def read_table(path: Path) -> pd.DataFrame:
    """Return the table in a CSV or Parquet file.

    Raises:
        DraftError: it cannot be read; says what to change.
    """
    import pandas as pd

    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, low_memory=False)
    except pd.errors.EmptyDataError:
        raise DraftError(f"{path} is empty. Give a CSV with a line of column names.") from None
    except UnicodeDecodeError as error:
        raise DraftError(f"{path} is not UTF-8 at byte {error.start}. Save it as UTF-8.") from None
    except ImportError:
        raise DraftError("Reading Parquet needs pyarrow: add it, or give a CSV.") from None
    except (OSError, ValueError) as error:
        problem = str(error).strip().rstrip(".")
        raise DraftError(f"{path} cannot be read as a table: {problem}.") from None


def _check(frame: pd.DataFrame, target: str) -> None:
    names = [str(name) for name in frame.columns]
    if not frame.columns.is_unique:
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DraftError(f"Columns share a name: {', '.join(twice)}. Rename all but one of them.")
    if target in frame.columns:
        count = len(present_values(frame[target]))
        if count == 0:
            raise DraftError(f"The column {target!r} has no values: there is nothing to learn.")
        if count == 1:
            raise DraftError(f"Only one row has a {target!r}: nothing can be learnt from it.")
        return
    separator = next((sign for sign in ";\t|" if len(names) == 1 and sign in names[0]), None)
    hint = (
        f" It seems to be separated by {separator!r}: separate it by commas." if separator else ""
    )
    close = difflib.get_close_matches(target, names, n=1)
    if close:
        hint = f" Did you mean {close[0]!r}?"
    listed = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
    raise DraftError(f"There is no column {target!r}; there are: {listed or 'none'}.{hint}")


def _with_target(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """Return the rows that have a target, whole numbers with gaps still as whole numbers.

    pandas reads whole numbers as decimals as soon as one is missing; once the rows with the gaps
    are gone, nothing would tell.
    """
    present = frame.index.isin(present_values(frame[target]).index)
    if present.all():
        return frame
    columns = {
        name: column.astype("Int64") if name != target and _whole_with_gaps(column) else column
        for name, column in frame.items()
    }
    return type(frame)(columns)[present]


def _whole_with_gaps(column: pd.Series) -> bool:
    if column.dtype.kind != "f" or not column.hasnans:
        return False
    values = column.dropna()
    return bool((values.abs() <= LARGEST_INTEGER).all() and (values % 1 == 0).all())


def _model_name(name: str) -> str:
    """Return the name itself, or the nearest one that a model can have."""
    if MODEL_NAME.fullmatch(name) and name not in RESERVED_NAMES:
        return name
    mended = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:57]
    return (
        mended
        if MODEL_NAME.fullmatch(mended) and mended not in RESERVED_NAMES
        else (f"model_{mended}".rstrip("_"))
    )


def _feature_lines(feature: DraftedFeature) -> list[str]:
    lines = [f"  {_yaml(feature.name)}:", f"    type: {feature.type}"]
    if feature.notes:
        lines[-1] += f"  # {_comment('; '.join(feature.notes))}"
    if feature.unit:
        lines.append(f"    unit: {_yaml(feature.unit)}")
    lines.append(f"    description: {UNKNOWN}")
    lines.append(f"    source: {{system: {UNKNOWN}, owner: {UNKNOWN}}}")
    if feature.sensitive:
        lines.append("    sensitive: true")
    stated = {
        "categories": list(feature.categories) or None,
        "length": feature.length,
        "max_length": feature.max_length,
        "minimum": feature.minimum,
        "maximum": feature.maximum,
    }
    lines += [f"    {key}: {_yaml(value)}" for key, value in stated.items() if value is not None]
    if feature.minimum is not None:
        lines.append("    on_out_of_range: clip")
    if feature.categories:
        lines.append("    on_unknown: pass  # the model sees a new category as it is")
    return [*lines, _on_missing(feature)]


def _on_missing(feature: DraftedFeature) -> str:
    if not feature.missing:
        return "    on_missing: reject  # never missing in the data"
    share = f"{feature.missing} of {feature.rows} rows, {feature.missing / feature.rows:.1%}"
    if feature.impute is not None:
        return (
            f"    on_missing: {{impute: {_yaml(feature.impute)}}}  # the median; missing in {share}"
        )
    return f"    on_missing: pass  # missing in {share}"


def _left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return []
    return [
        "  # Left out:",
        *(f"  #   {_comment(_yaml(study.name))}: {_comment(study.reason)}" for study in left_out),
    ]


def _output_lines(present: pd.Series, missing: int) -> list[str]:
    """Return the output for a target that each row has; `missing` rows had none."""
    lines = ["output:", f"  name: {_yaml(str(present.name))}"]
    if missing:
        rows = "1 row: leave it" if missing == 1 else f"{missing} rows: leave them"
        lines[-1] += f"  # missing in {rows} out in load()"
    if _is_class(present):
        counts = {str(value): int(count) for value, count in present.value_counts().items()}
        classes = sorted(counts, key=_class_order)
        rarest = min(classes, key=lambda label: counts[label])
        decimals = present.dtype.kind == "f"
        return [
            *lines,
            "  type: class" + ("  # decimals as in the data: .astype(int) in load()" * decimals),
            f"  classes: {_yaml(classes)}",
            f"  # least frequent: {_comment(rarest)}, {counts[rarest]} of {len(present)} rows",
            "  meaning: What each class means, and what the caller should do with it.",
            "  calibrated: false",
        ]
    lines += [
        "  type: number",
        "  meaning: What the number means, and what the caller does with it.",
    ]
    values = present.astype(float)
    whole = present.dtype.kind in "iu"
    span = readable_range(float(values.min()), float(values.max()), whole=whole)
    if span is not None:
        ends = [plain_number(end, whole=whole) for end in span]
        lines += [f"  minimum: {_yaml(ends[0])}  # told to callers, not enforced"]
        lines += [f"  maximum: {_yaml(ends[1])}"]
    return lines


def _is_class(present: pd.Series) -> bool:
    """Whether the target is one of a list; False if it is a number.

    Raises:
        DraftError: it is neither.
    """
    from pandas.api import types

    distinct = present.map(str).nunique()
    if types.is_numeric_dtype(present) and not types.is_bool_dtype(present):
        if not (present.astype(float).abs() < float("inf")).all():
            raise DraftError(f"The target {present.name!r} has infinite values: replace them.")
        few = distinct == 2 or (
            2 < distinct <= MOST_NUMBERED_CLASSES and len(present) >= 10 * distinct
        )
        return few and bool((present % 1 == 0).all())
    too_many = distinct > MOST_CLASSES or distinct > max(FEW_CLASSES, len(present) / 2)
    if types.is_datetime64_any_dtype(present) or too_many:
        raise DraftError(
            f"The target {present.name!r} has {distinct} different values that are no numbers. "
            "Predict a number, or one of a short list of classes."
        )
    if distinct < 2:
        raise DraftError(
            f"The target {present.name!r} is always {str(present.iloc[0])!r}: a class needs two "
            "values or more. Load more rows."
        )
    return True


def _class_order(label: str) -> tuple[float, str]:
    try:
        return (float(label), label)
    except ValueError:
        return (float("inf"), label)


def _example_text(frame: pd.DataFrame, contract: Contract) -> str:
    """Return the first rows on which no policy acts, as the contract's examples."""
    first = frame[list(contract.feature_names)].head(ROWS_FOR_EXAMPLES).copy()
    for feature in contract.features:
        if feature.type == "datetime" and first[feature.name].dtype.kind != "M":
            first[feature.name] = date_column(first[feature.name])
    rows = rows_of(first.astype(object).where(first.notna(), None), contract)
    read = RowReader(contract).read_rows(rows)
    whole_numbers = {f.name for f in contract.features if f.type == "integer"}
    chosen = [rows[position] for position in read.positions if position not in read.warnings]
    if not chosen:
        return "\n# No row of the data is complete; add examples: [{feature: value, …}]\n"
    lines = [
        f"  - {_yaml({k: int(v) if k in whole_numbers else v for k, v in row.items()})}\n"
        for row in chosen[:MOST_EXAMPLES]
    ]
    return "\nexamples:\n" + "".join(lines)


def _yaml(value: Any) -> str:
    """Return a value as YAML on one line."""
    options: dict[str, Any] = {"width": float("inf"), "allow_unicode": True, "sort_keys": False}
    text: str = yaml.safe_dump(value, default_flow_style=True, **options)
    text = text.removesuffix("...\n").strip()
    if "\n" in text:
        text = yaml.safe_dump(value, default_flow_style=True, default_style='"', **options).strip()
    return text


def _comment(text: str) -> str:
    return " ".join(text.split())
