"""One column of data, studied: which feature it could be, or why it had better be left out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from model_service.contract.contract import FeatureType
from model_service.contract.feature_reading import LONGEST_NAME
from model_service.contract.value_check import LARGEST_INTEGER

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 50
FEW_ROWS = 20
"""Below this many rows nothing is said of columns that are constant or unique by chance."""
MARGIN = 0.1
"""How far a drafted range goes beyond the data, as a share of the data's own range."""

_NAME = re.compile(rf"[^\"\\]{{1,{LONGEST_NAME}}}")
_ID_NAME = re.compile(r"(^|[\W_])(id|uuid|guid|index|key|nr|no)$|[a-z]I[dD]$|^Unnamed: \d+$", re.I)
_ISO_DATE = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?\s?(Z|[+-]\d\d:?\d\d)?)?"
)
_LOCAL_DATE = re.compile(r"\d{1,2}([./])\d{1,2}\1\d{4}( \d\d:\d\d(:\d\d)?)?")
_LOCAL_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
_PERSONAL = re.compile(
    r"e-?mail|phone|iban|passport|birth|address|ssn|(first|last|sur|full)[ _-]?name", re.I
)
_UNITS = {
    "mm": "mm", "cm": "cm", "m": "m", "km": "km", "g": "g", "kg": "kg", "eur": "EUR", "usd": "USD",
    "gbp": "GBP", "chf": "CHF", "days": "days", "hours": "hours", "minutes": "minutes",
    "seconds": "s", "months": "months", "years": "years", "pct": "%", "percent": "%", "kwh": "kWh",
    "celsius": "°C", "kmh": "km/h",
}  # fmt: skip


class LeftOut(msgspec.Struct, frozen=True):
    """A column that the draft leaves out, and why."""

    name: str
    reason: str


class DraftedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """What a column says of the feature it could be. `notes` are for the person who corrects it."""

    name: str
    type: FeatureType
    missing: int
    rows: int
    unit: str | None = None
    sensitive: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    length: int | None = None
    max_length: int | None = None
    impute: float | None = None
    notes: tuple[str, ...] = ()


def draft_feature(column: pd.Series) -> DraftedFeature | LeftOut:
    """Return the feature that a column could be."""
    name = column.name
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not name.isprintable():
        reason = f"a name has 1 to {LONGEST_NAME} visible characters, without quotes or backslashes"
        return LeftOut(str(name), reason)
    present = present_values(column)
    if present.empty:
        return LeftOut(name, "it has no value at all")
    kinds = sorted({_family(kind) for kind in present.map(type).unique()})
    if len(kinds) > 1:
        mixed = " and ".join(kinds)
        return LeftOut(name, f"it mixes {mixed}: make them one kind in load()")
    drafted = _DRAFTS[kinds[0]](name, present, len(column) - len(present))
    if isinstance(drafted, DraftedFeature) and _PERSONAL.search(name):
        return msgspec.structs.replace(
            drafted, sensitive=True, notes=(*drafted.notes, "by its name it is personal data")
        )
    return drafted


def present_values(column: pd.Series) -> pd.Series:
    """Return the values that are there. An empty text is missing, as it is in a request."""
    plain = column.astype(object) if column.dtype.name == "category" else column
    present = plain.dropna()
    return present[present.map(lambda value: not (isinstance(value, str) and not value))]


def date_column(column: pd.Series) -> pd.Series | None:
    """Return a column of texts as moments in UTC, or None if any text is no date."""
    import pandas as pd

    written = date_format(column)
    return None if written is None else pd.to_datetime(column, utc=True, format=written)


def date_format(column: pd.Series) -> str | None:
    """Return how every text of a column is written as a date, or None if any is no date.

    Where 3.2.2026 may be two days, the day comes first unless a later text says otherwise.
    """
    import pandas as pd

    texts = present_values(column).astype(str)
    if texts.map(lambda text: bool(_ISO_DATE.fullmatch(text))).all():
        formats = ["ISO8601"]
    elif texts.map(lambda text: bool(_LOCAL_DATE.fullmatch(text))).all():
        formats = [day + time for time in ("", " %H:%M", " %H:%M:%S") for day in _LOCAL_DAYS]
    else:
        return None
    for written in formats:
        try:
            pd.to_datetime(texts, utc=True, format=written)
        except (ValueError, OverflowError):
            continue
        return written
    return None


def date_conversion(name: str, written: str) -> str:
    """Return the code by which `load()` turns a column of texts into moments."""
    return f"pd.to_datetime(frame[{name!r}], utc=True, format={written!r})"


def readable_range(low: float, high: float, *, whole: bool) -> tuple[float, float] | None:
    """Return a range around the data: wider by `MARGIN`, in round numbers, on one side of zero.

    Data within 0 and 1 stays there. None if the data is too large for any sensible range.
    """
    span = high - low or abs(high) or 1.0
    if not math.isfinite(span) or abs(low) > LARGEST_INTEGER or abs(high) > LARGEST_INTEGER:
        return None
    # Nothing that is measured is smaller than this, and below 1e-300 a margin has no logarithm.
    span = max(span, 1e-100)
    digits = -math.floor(math.log10(span * MARGIN))
    if whole:
        digits = min(digits, 0)
    step = 10.0**-digits
    wide_low = round(math.floor((low - span * MARGIN) / step) * step, digits)
    wide_high = round(math.ceil((high + span * MARGIN) / step) * step, digits)
    if low >= 0:
        wide_low = max(wide_low, 0.0)
    elif high <= 0:
        wide_high = min(wide_high, 0.0)
    if low >= 0 and 0 < high <= 1 and not whole:
        wide_high = min(wide_high, 1.0)
    return min(wide_low, low), max(wide_high, high)


def plain_number(value: float, *, whole: bool = False) -> float | int:
    """Return a number without needless decimals: 3 rather than 3.0."""
    return int(value) if whole or (float(value).is_integer() and abs(value) < 1e15) else value


def _family(kind: type) -> str:
    import numpy as np

    if issubclass(kind, bool | np.bool_):
        return "booleans"
    if issubclass(kind, int | float | np.number):
        return "numbers"
    if issubclass(kind, str):
        return "texts"
    if issubclass(kind, list | tuple | np.ndarray):
        return "lists"
    return "dates" if hasattr(kind, "isoformat") and hasattr(kind, "timestamp") else "other objects"


def _booleans(name: str, present: pd.Series, missing: int) -> DraftedFeature | LeftOut:
    return DraftedFeature(name=name, type="boolean", missing=missing, rows=len(present) + missing)


def _numbers(name: str, present: pd.Series, missing: int) -> DraftedFeature | LeftOut:
    import pandas as pd

    present = pd.to_numeric(present)
    given = present.astype(float)
    values = given[given.abs() != math.inf]
    if values.empty:
        return LeftOut(name, "it has no finite number")
    # Whole numbers of more than 64 bits stay Python's own, in a column of objects.
    reason = _useless(name, given if present.dtype == object else present)
    if reason:
        return LeftOut(name, reason)
    # pandas reads whole numbers as decimals as soon as one is missing.
    written_whole = present.dtype.kind in "iuO" or missing > 0
    whole = bool(written_whole and (values % 1 == 0).all())
    low, high = float(values.min()), float(values.max())
    if whole and max(abs(low), abs(high)) > LARGEST_INTEGER:
        return LeftOut(name, "it has whole numbers above 2^53, which look like identifiers")
    span = readable_range(low, high, whole=whole)
    notes = [f"seen: {_shown(low)} to {_shown(high)}"]
    if len(values) < len(given):
        notes.append("it has infinite values, which no caller can send: replace them in load()")
    return DraftedFeature(
        name=name,
        type="integer" if whole else "number",
        missing=missing,
        rows=len(present) + missing,
        unit=_UNITS.get(re.split(r"[\W_]+", name.lower().strip())[-1]),
        minimum=None if span is None else plain_number(span[0], whole=whole),
        maximum=None if span is None else plain_number(span[1], whole=whole),
        impute=_median(values, whole=whole) if missing else None,
        notes=tuple(notes),
    )


def _texts(name: str, present: pd.Series, missing: int) -> DraftedFeature | LeftOut:
    rows = len(present) + missing
    written = date_format(present)
    if written is not None:
        import pandas as pd

        moments = pd.to_datetime(present, utc=True, format=written)
        return _moments(name, moments, missing, written)
    distinct = present.nunique()
    reason = _useless(name, present)
    if reason:
        return LeftOut(name, reason)
    notes = _notes_on_numbers(present)
    if distinct <= MOST_CATEGORIES and (distinct <= 10 or distinct <= rows / 2):
        counts = present.value_counts()
        if len(present) >= FEW_ROWS and counts.iloc[-1] < 5:
            notes.append(f"rare: {_quoted(counts.index[-1])} in {counts.iloc[-1]} rows")
        return DraftedFeature(
            name=name,
            type="category",
            missing=missing,
            rows=rows,
            categories=tuple(sorted(present.unique())),
            notes=tuple(notes),
        )
    longest = int(present.str.len().max())
    notes.insert(0, f"{distinct} different texts: too many for categories")
    return DraftedFeature(
        name=name,
        type="string",
        missing=missing,
        rows=rows,
        max_length=max(50, 2 ** math.ceil(math.log2(2 * longest))) if longest < 50_000 else None,
        notes=tuple(notes),
    )


def _moments(
    name: str, present: pd.Series, missing: int, written: str | None = None
) -> DraftedFeature | LeftOut:
    notes = [f"seen: {present.min().date()} to {present.max().date()}"]
    if written:
        notes.append(f"text in the data: load() needs {date_conversion(name, written)}")
    notes.append("features() has to turn it into numbers, such as days since a date")
    return DraftedFeature(
        name=name,
        type="datetime",
        missing=missing,
        rows=len(present) + missing,
        notes=tuple(notes),
    )


def _lists(name: str, present: pd.Series, missing: int) -> DraftedFeature | LeftOut:
    lengths = present.map(len)
    numeric = present.map(lambda items: all(_family(type(item)) == "numbers" for item in items))
    if lengths.nunique() > 1 or not lengths.iloc[0] or not numeric.all():
        return LeftOut(name, "its lists are not all of one length, or not of numbers")
    return DraftedFeature(
        name=name,
        type="vector",
        missing=missing,
        rows=len(present) + missing,
        length=int(lengths.iloc[0]),
    )


def _others(name: str, present: pd.Series, _: int) -> DraftedFeature | LeftOut:
    kind = type(present.iloc[0]).__name__
    return LeftOut(name, f"values of the kind {kind} cannot be sent in JSON: convert it in load()")


_DRAFTS: dict[str, Callable[[str, Any, int], DraftedFeature | LeftOut]] = {
    "booleans": _booleans,
    "numbers": _numbers,
    "texts": _texts,
    "dates": _moments,
    "lists": _lists,
    "other objects": _others,
}


def _useless(name: str, present: pd.Series) -> str | None:
    """Return why a column cannot help a model: it never changes, or it names each row."""
    if len(present) < FEW_ROWS:
        return None
    distinct = present.nunique()
    if distinct == 1:
        return f"it is always {_quoted(present.iloc[0])}"
    if distinct < len(present):
        return None
    if present.dtype.kind in "iu":
        counts = bool((present.diff().dropna() == 1).all())
        return "it looks like an identifier" if counts or _ID_NAME.search(name) else None
    if present.dtype.kind == "f":
        return None
    single_words = not present.str.contains(r"\s", regex=True).any()
    return "it looks like an identifier" if single_words or _ID_NAME.search(name) else None


def _notes_on_numbers(present: pd.Series) -> list[str]:
    import pandas as pd

    numbers = pd.to_numeric(present, errors="coerce")
    share = float(numbers.notna().mean())
    if share < 0.5:
        return []
    odd = present[numbers.isna()]
    example = f", such as {_quoted(odd.iloc[0])}" if len(odd) else ""
    return [f"{share:.0%} look like numbers; the rest is text{example}: convert it in load()"]


def _median(values: pd.Series, *, whole: bool) -> float:
    middle = float(values.median())
    if whole:
        return round(middle)
    readable = float(f"{middle:.4g}")
    return plain_number(readable if values.min() <= readable <= values.max() else middle)


def _shown(number: float) -> str:
    return f"{number:.10g}"


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:40] + "…")
