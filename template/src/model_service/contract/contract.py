"""What one model accepts and returns, and what happens to dirty values.

`Contract` is the parsed form of `models/<name>/contract.yaml`. It knows nothing of HTTP, of the
registry or of any library for training: everything else in this package is made from it.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec

FeatureType = Literal["integer", "number", "boolean", "category", "string", "datetime", "vector"]
OutputType = Literal["class", "number", "vector"]
PolicyAction = Literal["reject", "pass", "impute", "clip", "map_to"]
UnknownFields = Literal["reject", "ignore"]

FEATURE_TYPES: tuple[FeatureType, ...] = (
    "integer",
    "number",
    "boolean",
    "category",
    "string",
    "datetime",
    "vector",
)
OUTPUT_TYPES: tuple[OutputType, ...] = ("class", "number", "vector")

Value = bool | int | float | str | list[float]
"""A value of one feature as it stands in JSON."""


class Policy(msgspec.Struct, frozen=True):
    """What is done with a value that the model was not trained for.

    `value` is the replacement of `impute` and `map_to`, and None for every other action.
    """

    action: PolicyAction = "reject"
    value: Value | None = None


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a feature comes from in production, and who would announce its removal."""

    system: str
    owner: str


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a row.

    `minimum` and `maximum` are inclusive; of a `datetime` they are aware datetimes, of a `vector`
    they hold for each element. `length` is the number of elements of a `vector`, `max_length` the
    largest number of characters of a `string`.
    """

    name: str
    type: FeatureType
    description: str = ""
    unit: str | None = None
    source: Source | None = None
    sensitive: bool = False
    minimum: float | dt.datetime | None = None
    maximum: float | dt.datetime | None = None
    categories: tuple[str, ...] = ()
    length: int | None = None
    max_length: int | None = None
    example: Value | None = None
    on_missing: Policy = Policy("reject")
    on_unknown: Policy = Policy("reject")
    on_out_of_range: Policy = Policy("reject")

    @property
    def is_text(self) -> bool:
        """Whether the feature's column holds text (missing is `""`) and not numbers."""
        return self.type in ("category", "string")


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What the model answers for a row.

    `thresholds` gives, for a `class` output, the probability from which a class is chosen before
    the most probable one is; `decided_by` names who may change them.
    """

    name: str
    type: OutputType
    meaning: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    classes: tuple[str, ...] = ()
    calibrated: bool | None = None
    thresholds: dict[str, float] = {}
    decided_by: str | None = None
    length: int | None = None


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """The interface of one model."""

    name: str
    contract_version: str
    description: str
    features: tuple[Feature, ...]
    output: Output
    unknown_fields: UnknownFields = "reject"
    examples: tuple[dict[str, Value | None], ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features in the order of the contract."""
        return tuple(feature.name for feature in self.features)

    def feature(self, name: str) -> Feature:
        """Return the feature called `name`.

        Raises:
            KeyError: the contract has no such feature.
        """
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)
