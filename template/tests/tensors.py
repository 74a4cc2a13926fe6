"""Rows as tensors, and what a version answers for them without a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.contract.contract import Contract, Feature
from model_service.contract.examples import example_rows
from model_service.registry.golden import is_same
from model_service.registry.loaded_version import LoadedVersion, Predictions, load_version
from model_service.serving.inference_protocol.tensors import datatype_of
from tests.found_versions import Found

NUMPY = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}
MOST_ROWS = 20


@dataclass(frozen=True)
class Tensor:
    """One feature of some rows."""

    name: str
    datatype: str
    values: NDArray[Any]


@cache
def loaded_from(folder: Path) -> LoadedVersion:
    """Return a version as the service has it in memory."""
    return load_version(folder)


def whole_rows(found: Found) -> list[dict[str, Any]]:
    """Return rows in which nothing is missing: the protocol knows no missing values."""
    loaded = loaded_from(found.folder)
    names = loaded.contract.feature_names
    golden = [one.row for one in loaded.golden]
    whole = [row for row in golden if all(row.get(name) is not None for name in names)]
    return whole[:MOST_ROWS] or example_rows(loaded.contract)


def tensors_of(found: Found, rows: Sequence[dict[str, Any]]) -> list[Tensor]:
    """Return the features of rows, each as a tensor."""
    contract = loaded_from(found.folder).contract
    return [_tensor(feature, [row[feature.name] for row in rows]) for feature in contract.features]


def answered_here(found: Found, rows: Sequence[dict[str, Any]]) -> Predictions:
    """Return what the version answers for rows, in this process."""
    loaded = loaded_from(found.folder)
    read = loaded.reader.read_rows(rows)
    assert not read.faults
    return loaded.predict(read.values)


def assert_same_tensors(
    contract: Contract, expected: Predictions, answered: dict[str, NDArray[Any]]
) -> None:
    """The tensors that a client was answered hold what was predicted here."""
    values = [_text(value) for value in answered[contract.output.name].tolist()]
    for one, other in zip(expected.values, values, strict=True):
        assert is_same(one, other), (one, other)
    if expected.probabilities is not None:
        shares = answered["probabilities"].reshape(expected.probabilities.shape)
        np.testing.assert_allclose(shares, expected.probabilities, rtol=1e-6, atol=1e-6)


def _tensor(feature: Feature, values: list[Any]) -> Tensor:
    datatype = datatype_of(feature.type)
    return Tensor(feature.name, datatype, np.array(values, dtype=NUMPY[datatype]))


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
