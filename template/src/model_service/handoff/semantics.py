"""What each answer means: unit, range, thresholds and who decides them, calibrated or not."""

from __future__ import annotations

from typing import Any

import msgspec

from model_service.contract.contract import Contract

NOT_STATED = "not stated"


class Semantics(msgspec.Struct, frozen=True, kw_only=True):
    """The meaning of one model's answer; None or empty where it does not apply to its type.

    `decided_by` and `calibrated` are "not stated" where the contract should say it and does not.
    """

    output: str
    type: str
    meaning: str
    unit: str | None
    minimum: float | None
    maximum: float | None
    classes: tuple[str, ...]
    probabilities: str | None
    thresholds: dict[str, float]
    decided_by: str | None
    calibrated: bool | str | None
    fields: dict[str, str]


FIELDS = {
    "model": "The model that was asked.",
    "version": "The version that answered: log it, for only with it an answer can be explained.",
    "alias": "The alias by which the version was found; null if it was asked for by its number.",
    "request_id": "The id of the request, yours or made up. Quote it when you report something.",
    "rows": "One entry for each row, in the order of the request.",
    "rows[].prediction_id": "Names this prediction for good: keep it to report the ground truth.",
    "rows[].warnings": "What was done about dirty values; empty for a clean row.",
    "rows[].error": "Stands in the place of value if this row is refused; the others are answered.",
}


def semantics_of(contract: Contract) -> Semantics:
    """Return what the answers of a model mean."""
    output = contract.output
    is_class = output.type == "class"
    calibrated: bool | str | None = None
    if is_class:
        calibrated = NOT_STATED if output.calibrated is None else output.calibrated
    fields: dict[str, Any] = {**FIELDS, "rows[].value": output.meaning}
    if is_class:
        fields["rows[].probabilities"] = _probabilities(calibrated)
    return Semantics(
        output=output.name,
        type=output.type,
        meaning=output.meaning,
        unit=output.unit,
        minimum=output.minimum,
        maximum=output.maximum,
        classes=output.classes,
        probabilities=_probabilities(calibrated) if is_class else None,
        thresholds=output.thresholds,
        decided_by=(output.decided_by or NOT_STATED) if is_class else output.decided_by,
        calibrated=calibrated,
        fields=dict(sorted(fields.items())),
    )


def _probabilities(calibrated: bool | str | None) -> str:
    if calibrated is True:
        return "0 to 1, by class. Calibrated: of rows answered 0.8, about 80 % are right."
    return "0 to 1, by class. Not known to be calibrated: they rank rows, and 0.8 is no 80 %."
