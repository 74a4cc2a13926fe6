"""What an answer must be, by the contract: shared by the proofs that ask a running service."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from model_service.contract.contract import Contract, Policy
from model_service.handoff.outcome import UnmetError
from model_service.handoff.running_service import Reply

ABSENT = object()
"""Stands for a field that is not sent."""


def answered_rows(reply: Reply, what: str) -> list[dict[str, Any]]:
    """Return the answers of a reply that must be 200."""
    if reply.status != 200:
        raise UnmetError(f"{what}: answered {reply.status} {reply.body[:160].decode()}")
    rows: list[dict[str, Any]] = reply.json["rows"]
    return rows


def check_answer(contract: Contract, answer: Mapping[str, Any], what: str) -> None:
    """Check that a row was answered, by a value that the contract's output allows."""
    if "value" not in answer:
        raise UnmetError(f"{what}: refused, {str(answer.get('error'))[:160]}")
    output, value = contract.output, answer["value"]
    if output.type == "class":
        good = value in output.classes and set(answer["probabilities"]) == set(output.classes)
    elif output.type == "vector":
        good = len(value) == output.length and all(map(math.isfinite, value))
    else:
        good = isinstance(value, int | float) and math.isfinite(value)
    if not good:
        raise UnmetError(f"{what}: {value!r} is no {output.type} of the contract")


def with_value(row: Mapping[str, Any], name: str, value: object) -> dict[str, Any]:
    """Return a row with another value of one feature, or without that feature."""
    rest = {field: other for field, other in row.items() if field != name}
    return rest if value is ABSENT else {**rest, name: value}


def check_policy(
    answer: Mapping[str, Any], feature: str, policy: Policy, problem: str, what: str
) -> None:
    """Check that a dirty value was refused, or answered with a warning, as its policy says."""
    if policy.action == "reject":
        faults: Sequence[Mapping[str, Any]] = answer.get("error", {}).get("faults", ())
        if not any(f["code"] == problem and f["pointer"].endswith(f"/{feature}") for f in faults):
            raise UnmetError(f"{what}: not refused as {problem}, but {str(dict(answer))[:160]}")
        return
    found = {(w["feature"], w["problem"], w["action"]) for w in answer.get("warnings", ())}
    if (feature, problem, policy.action) not in found:
        raise UnmetError(f"{what}: no warning that it was {problem} and {policy.action}")
