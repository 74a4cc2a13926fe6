"""What a version keeps so that it can be watched: profile, dependence, and its blind spots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from model_service.contract.contract import Contract
from model_service.contract.rows import ReadRows
from model_service.drift.blind_spots import BlindSpots, write_blind_spots
from model_service.drift.counts import Answered
from model_service.drift.dependence import dependence_of, write_dependence
from model_service.drift.profiling import Times, profile_of
from model_service.drift.quality import calibration_of
from model_service.registry.profile import write_profile
from model_service.training.injected_faults import HeldOut, blind_spots_of
from model_service.training.recipe import TrainingError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from typing import Any

    import pandas as pd
    from numpy.typing import NDArray


class Watching(msgspec.Struct, frozen=True):
    """How a model will be watched: its declared rows a day, and false alarms allowed a month."""

    rows_per_day: int
    false_alarms_per_month: float


def times_of(
    contract: Contract,
    columns: Mapping[str, NDArray[Any]],
    table: pd.DataFrame | None = None,
    column: str | None = None,
) -> Times | None:
    """Return when rows happened: by a named column of their table, or the only datetime feature.

    Raises:
        TrainingError: there is no such column, or it holds something that is no time.
    """
    moments = [feature.name for feature in contract.features if feature.type == "datetime"]
    if column is None:
        column = moments[0] if len(moments) == 1 else None
    if column is None:
        return None
    if column in moments:
        return _times(columns[column], column)
    if table is None:
        raise TrainingError(
            f"TIME in train.py names {column!r}, which is no column of what load() returns."
        )
    return _times(_stamps(table, column).dt.tz_localize(None).to_numpy(), None)


def rows_since(
    table: pd.DataFrame, contract: Contract, column: str | None, since: dt.date
) -> pd.DataFrame:
    """Return the rows that happened on a day or later; those without a time are left out.

    Raises:
        TrainingError: nothing says when rows happened, or none is left.
    """
    moments = [feature.name for feature in contract.features if feature.type == "datetime"]
    if column is None and len(moments) == 1:
        column = moments[0]
    if column is None:
        raise TrainingError(
            "--since needs to know when rows happened: name the column in train.py, such as "
            'TIME = "ordered_at".'
        )
    import pandas as pd

    kept = table[_stamps(table, column) >= pd.Timestamp(since, tz="UTC")]
    if not len(kept):
        raise TrainingError(f"No row of {len(table)} happened on {since} or later, by {column}.")
    return kept


def _stamps(table: pd.DataFrame, column: str) -> pd.Series:
    import pandas as pd

    if column not in table.columns:
        raise TrainingError(
            f"TIME in train.py names {column!r}, which is no column of what load() returns."
        )
    values = table[column]
    if pd.api.types.is_integer_dtype(values) and values.between(1900, 2200).all():
        values = values.astype(str) + "-01-01"  # years: pandas takes integers for nanoseconds
    try:
        return pd.to_datetime(values, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise TrainingError(
            f"The column {column!r}, TIME in train.py, has no times: {error}"
        ) from None


def _times(moments: Any, feature: str | None) -> Times:
    micro = np.asarray(moments).astype("datetime64[us]")
    seconds = np.where(np.isnat(micro), np.nan, micro.astype(np.int64) / 1e6)
    return Times(seconds, feature)


def write_reference(
    folder: Path,
    contract: Contract,
    reference: ReadRows,
    held_out: HeldOut,
    truth: Sequence[Any],
    times: Times | None,
    watching: Watching,
) -> BlindSpots:
    """Write the three files and return what the card says of them."""
    answers: Answered = held_out.answers
    profile = profile_of(contract, reference, answers, times)
    calibration = calibration_of(contract, answers.values, answers.probabilities, truth)
    profile = msgspec.structs.replace(profile, calibration=calibration)
    dependence = dependence_of(contract, profile, reference.values)
    spots = blind_spots_of(
        contract,
        profile,
        dependence,
        held_out,
        watching.rows_per_day,
        watching.false_alarms_per_month,
    )
    write_profile(folder, profile)
    write_dependence(folder, dependence)
    write_blind_spots(folder, spots)
    return spots
