"""A prediction log in each kind of database."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model_service.prediction_log.store import PredictionStore, open_store
from tests.platform.postgresql_server import PostgresqlServer, postgresql_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes places of empty prediction logs."""
    if request.param == "sqlite":
        numbers = itertools.count()
        return lambda: str(tmp_path / f"log-{next(numbers)}")
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.new_log


@pytest.fixture
def place(new_place: Callable[[], str]) -> str:
    """Where an empty prediction log is."""
    return new_place()


@pytest.fixture
def store(place: str, tmp_path: Path) -> Iterator[PredictionStore]:
    """An empty prediction log."""
    opened = open_store(place, tmp_path)
    yield opened
    opened.close()
