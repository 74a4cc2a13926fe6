"""The reference profile: statistics of the training data that drift is measured against.

It holds counts, bin edges and names of categories, and no row. Of a sensitive feature it holds no
smallest and no largest value, and of sensitive text only how long it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from model_service.contract.contract import Contract
from model_service.files import write_atomically

PROFILE = "profile.json"
PROFILE_FORMAT = 2

Measure = Literal["number", "text", "length", "distance", "none"]
"""What of a feature is counted: the number itself, the text itself, the number of characters of
sensitive text, the distance of a vector from the centre of training; or nothing, for a moment in
time is never like those before it."""


class FeatureCounts(msgspec.Struct):
    """How often which value came: per bin or category, and what is counted apart from them.

    A value that is missing, unseen or out of range is in no bin. `unseen` is an unknown category,
    a number beyond all of training's, or a value of another type than the contract's. `far` are
    those of them that lie further beyond than training's smallest and largest number are apart.
    """

    bins: list[int]
    missing: int = 0
    unseen: int = 0
    out_of_range: int = 0
    far: int = 0


class FeatureProfile(msgspec.Struct, frozen=True):
    """One feature, or the output, over the rows of training.

    Bin i holds the numbers above `edges[i - 1]` and up to `edges[i]`; text has a bin for each of
    `categories` and one for all others. `low` and `high` are the smallest and the largest number.
    `counts.unseen` is how many values no other row had, an end of the range or a category: by Good
    and Turing that share of fresh rows is new although nothing changed. `blocks` are the counts by
    block of time. `centre` and `scale` are means and deviations of a vector's elements.
    """

    measure: Measure
    counts: FeatureCounts
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    blocks: tuple[FeatureCounts, ...] = ()
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()


class TimeBlocks(msgspec.Struct, frozen=True):
    """The rhythm of training: blocks of `hours` on working days, then those of weekends, in UTC.

    `feature` is the one that says when a row happened; without it that is when it was answered.
    `rows` counts the rows of training in each block.
    """

    hours: int
    rows: tuple[int, ...]
    feature: str | None = None


class Calibration(msgspec.Struct, frozen=True):
    """What a score of the model was worth on `rows` held out of training.

    At each of `scores`, rising, `shares` of the rows were of the second of two classes, or were
    answered rightly where there are more; `happened` counts those of all rows.
    """

    rows: int
    scores: tuple[float, ...]
    shares: tuple[float, ...]
    happened: int


class ReferenceProfile(msgspec.Struct, frozen=True):
    """The features over the `rows` trained on, and the output over rows held out of training.

    `score` is the probability of the second of two classes, or of the class that was chosen.
    """

    format: int
    rows: int
    features: dict[str, FeatureProfile]
    output: FeatureProfile
    score: FeatureProfile | None = None
    time: TimeBlocks | None = None
    calibration: Calibration | None = None


class ProfileMismatchError(Exception):
    """A profile that these rows cannot be held against; says why, and what to do."""


def output_names(contract: Contract) -> tuple[str, str]:
    """Return the names under which the output and its score are counted among the features."""
    prediction, score = "prediction", "score"
    while prediction in contract.feature_names:
        prediction += "_"
    while score in contract.feature_names:
        score += "_"
    return prediction, score


def write_profile(folder: Path, profile: ReferenceProfile) -> None:
    """Write `profile.json` into a version's folder."""
    write_atomically(folder / PROFILE, msgspec.json.encode(profile) + b"\n")


def read_profile(folder: Path) -> ReferenceProfile:
    """Read the profile of a version.

    Raises:
        ProfileMismatchError: there is none, or it is of another format than this platform counts.
    """
    try:
        content = (folder / PROFILE).read_bytes()
        found = msgspec.json.decode(content, type=_Format).format
        if found == PROFILE_FORMAT:
            return msgspec.json.decode(content, type=ReferenceProfile)
        problem = f"has format {found}, and {PROFILE_FORMAT} is counted here"
    except FileNotFoundError:
        problem = "is not there"
    except msgspec.MsgspecError as error:
        problem = f"cannot be read: {error}"
    raise ProfileMismatchError(
        f"profile mismatch: {folder / PROFILE} {problem}. Drift of this version is not watched; "
        "train the model again to have it watched."
    )


class _Format(msgspec.Struct):
    format: int = 1
