"""What this model must do whatever its metrics say: invariances, directions, smallest cases."""

from pathlib import Path

import pytest

from model_service.contract.examples import example_rows
from model_service.contract.reading import read_contract

pytestmark = pytest.mark.behaviour
CONTRACT = read_contract(Path(__file__).parents[1] / "contract.yaml")


def test_the_contract_has_an_example_to_begin_with() -> None:
    assert example_rows(CONTRACT)
