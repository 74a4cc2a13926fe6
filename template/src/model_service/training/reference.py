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
    if table is None or column not in table.columns:
        raise TrainingError(
            f"TIME in train.py names {column!r}, which is no column of what load() returns."
        )
    import pandas as pd

    try:
        stamps = pd.to_datetime(table[column], utc=True).dt.tz_localize(None)
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"The column {column!r}, TIME in train.py, has no times: {error}"
        ) from None
    return _times(stamps.to_numpy(), None)


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
