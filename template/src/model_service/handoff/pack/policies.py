"""What a feature takes, and what happens to dirty values, in words for other teams."""

from __future__ import annotations

from model_service.contract.contract import Contract, Feature, Policy
from model_service.handoff.pack.html import Piece, joined, piece, table

_DONE = {
    "reject": "row refused",
    "pass": "answered without it",
    "clip": "moved to the limit",
    "impute": "taken as {value}",
    "map_to": "taken as {value}",
}


def features_table(contract: Contract) -> Piece:
    """Return a table of everything that a caller may send."""
    return table(
        ("Field", "Type", "Values", "If missing", "If new or out of range"),
        [
            (
                _named(feature),
                f"{feature.type}, {feature.unit}" if feature.unit else feature.type,
                values_of(feature),
                _done(feature.on_missing),
                _otherwise(feature),
            )
            for feature in contract.features
        ],
    )


def values_of(feature: Feature) -> str:
    """Return the categories or the range of a feature."""
    if feature.categories:
        return ", ".join(feature.categories)
    parts = []
    if feature.length is not None:
        parts.append(f"{feature.length} numbers")
    if feature.max_length is not None:
        parts.append(f"up to {feature.max_length} characters")
    low, high = feature.minimum, feature.maximum
    if low is not None or high is not None:
        parts.append(
            f"{_limit(low)} to {_limit(high)}"
            if low is not None and high is not None
            else f"from {_limit(low)}"
            if high is None
            else f"up to {_limit(high)}"
        )
    return ", ".join(parts) or "any"


def _limit(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _named(feature: Feature) -> Piece:
    required = " <small>must be sent</small>" if feature.on_missing.action == "reject" else ""
    described = f"<small>{piece(feature.description)}</small>" if feature.description else ""
    return joined([piece(f"`{feature.name}`"), Piece(described), Piece(required)])


def _done(policy: Policy) -> str:
    return _DONE[policy.action].format(value=policy.value)


def _otherwise(feature: Feature) -> str:
    if feature.type == "category":
        return _done(feature.on_unknown).replace("answered without it", "answered all the same")
    if feature.minimum is not None or feature.maximum is not None:
        return _done(feature.on_out_of_range).replace("without it", "with it as it is")
    return "-"
