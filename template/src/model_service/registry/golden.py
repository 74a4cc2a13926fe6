"""Golden predictions: rows and the answers that the served format gave when it was trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from model_service.files import write_atomically

GOLDEN = "golden.jsonl"
RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-5
"""float32 arithmetic differs in the last digits between processors and library versions."""


class GoldenPrediction(msgspec.Struct, frozen=True):
    """A raw row as a caller sends it and its answer; `warnings` are (feature, problem, action)."""

    row: dict[str, Any]
    value: str | float | list[float]
    probabilities: dict[str, float] | None = None
    warnings: tuple[tuple[str, str, str], ...] = ()


def write_golden(folder: Path, golden: Sequence[GoldenPrediction]) -> None:
    """Write `golden.jsonl` into a version's folder."""
    lines = [msgspec.json.encode(prediction) for prediction in golden]
    write_atomically(folder / GOLDEN, b"\n".join(lines) + b"\n")


def read_golden(content: bytes) -> list[GoldenPrediction]:
    """Read golden predictions, one a line.

    Raises:
        ValueError: the bytes hold something else.
    """
    return msgspec.json.Decoder(GoldenPrediction).decode_lines(content)


def differences(expected: GoldenPrediction, actual: GoldenPrediction) -> list[str]:
    """Return in words how an answer differs from the golden one; nothing if it agrees."""
    found = []
    if not is_same(expected.value, actual.value):
        found.append(f"value {actual.value!r} instead of {expected.value!r}")
    before, now = expected.probabilities or {}, actual.probabilities or {}
    if before.keys() != now.keys():
        found.append(f"probabilities of {list(now)} instead of {list(before)}")
    else:
        found += [
            f"probability of {name} {now[name]:.6g} instead of {share:.6g}"
            for name, share in before.items()
            if not is_same(share, now[name])
        ]
    if sorted(expected.warnings) != sorted(actual.warnings):
        found.append(f"warnings {list(actual.warnings)} instead of {list(expected.warnings)}")
    return found


def is_same(expected: Any, actual: Any) -> bool:
    """Return whether two values of an answer agree within the tolerance of float32."""
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(is_same, expected, actual))
    if isinstance(expected, float | int) and isinstance(actual, float | int):
        return math.isclose(
            expected, actual, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE
        )
    return bool(expected == actual)
