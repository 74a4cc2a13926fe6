"""Rows for the tests of the prediction log."""

from __future__ import annotations

from typing import Any

from model_service.prediction_log.records import LoggedRow


def logged(number: int = 1, **changes: Any) -> LoggedRow:
    """Return an answered row; its id and its second are made of `number`."""
    fields: dict[str, Any] = {
        "prediction_id": f"p-{number}",
        "request_id": f"r-{number}",
        "at": 1000.0 + number,
        "model": "churn",
        "version": "1",
        "alias": "champion",
        "entity": "e1",
        "received": {"age": 41, "town": None},
        "used": {"age": 41, "town": "Ulm"},
        "warnings": (("town", "missing", "impute"),),
        "value": "stays",
        "probabilities": {"stays": 0.75, "leaves": 0.25},
        "seconds": 0.002,
    }
    return LoggedRow(**{**fields, **changes})
