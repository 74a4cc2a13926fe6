"""The blind-spot card of a version: which faults watching would find within a day, and which never.

It is measured at training, by putting faults into the model's own held-out rows.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from model_service.files import write_atomically

BLIND_SPOTS = "blind_spots.json"


class SmallestFound(msgspec.Struct, frozen=True):
    """The smallest of the sizes tried that is found within a day; None if not even the largest is.

    `unit` says what is counted: standard deviations, times, or the share of the rows hit.
    """

    fault: str
    unit: str
    size: float | None
    largest_tried: float


class FalseAlarms(msgspec.Struct, frozen=True):
    """What watching held-out rows, in their order, raised: `alarms` in so many `windows` of `rows`.

    `budget` is the number allowed in a month of `windows_per_month` windows.
    """

    windows: int
    rows: int
    alarms: int
    budget: float
    windows_per_month: float


class BlindSpots(msgspec.Struct, frozen=True):
    """The card at a traffic of `rows_per_day`: what is found of faults in each feature.

    `blind` are the features of which the basic fault, the first one listed, is never found.
    """

    rows_per_day: int
    features: dict[str, tuple[SmallestFound, ...]]
    blind: tuple[str, ...]
    false_alarms: FalseAlarms


def write_blind_spots(folder: Path, spots: BlindSpots) -> None:
    """Write `blind_spots.json` into a version's folder."""
    write_atomically(folder / BLIND_SPOTS, msgspec.json.encode(spots) + b"\n")


def read_blind_spots(folder: Path) -> BlindSpots | None:
    """Read the card of a version; None of a version that was trained before there were any."""
    try:
        return msgspec.json.decode((folder / BLIND_SPOTS).read_bytes(), type=BlindSpots)
    except FileNotFoundError:
        return None


def blind_features(folder: Path) -> tuple[str, ...] | None:
    """Return the features of a version that are not watched well enough; None if nobody measured.

    Of such a feature the basic fault is not found within a day at the declared traffic: a shift of
    two standard deviations, one value for all rows, a new category, or missing altogether.
    """
    spots = read_blind_spots(folder)
    return None if spots is None else spots.blind
