"""A prediction log in each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_service.prediction_log.store import PredictionStore, open_store


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where an empty prediction log is."""
    return str(tmp_path / "log")


@pytest.fixture
def store(place: str, tmp_path: Path) -> Iterator[PredictionStore]:
    """An empty prediction log."""
    opened = open_store(place, tmp_path)
    yield opened
    opened.close()
