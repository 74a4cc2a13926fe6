"""What an answer must look like, whatever was sent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from model_service.contract.contract import Contract
from model_service.contract.value_check import pointer_to
from tests.found_versions import Found
from tests.strategies import CLEAN, Expected

TOLERANCE = 1e-6
"""By how much the same row may be answered differently in another batch (32-bit arithmetic)."""


@dataclass(frozen=True)
class Asked:
    """A model, and a client of the server that answers for it."""

    model: str
    client: httpx.Client


class Caller:
    """Sends rows to a running server."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def send(self, found: Found, rows: Sequence[Any] | bytes) -> httpx.Response:
        """Send rows, or the bytes of a whole body, to a version."""
        body = rows if isinstance(rows, bytes) else json.dumps({"rows": list(rows)}).encode()
        response = self.client.post(
            f"/v1/models/{found.model}/versions/{found.version}/predict",
            content=body,
            headers={"content-type": "application/json"},
        )
        assert response.status_code < 500, f"{response.text} was answered to {body[:2000]!r}"
        return response

    def answers(self, found: Found, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Send rows of which at least one is right, and return the answer of each."""
        response = self.send(found, rows)
        assert response.status_code == 200, response.text
        answered: list[dict[str, Any]] = response.json()["rows"]
        assert len(answered) == len(rows)
        return answered

    def check(
        self, found: Found, sent: Sequence[tuple[dict[str, Any], Mapping[str, Expected]]]
    ) -> None:
        """Send rows, and check that each is answered or refused just as the contract says."""
        assert found.contract is not None
        rows = [row for row, _ in sent]
        response = self.send(found, rows)
        body = response.json()
        refused = [any(each.fault for each in expected.values()) for _, expected in sent]
        assert response.status_code == (422 if all(refused) else 200), (rows, body)
        if all(refused):
            assert response.headers["content-type"] == "application/problem+json"
            assert _faults(body) == set().union(*_all_expected_faults(sent)), (rows, body)
            assert_pointers_point_into(body["faults"], rows)
            return
        for position, (answer, faults) in enumerate(
            zip(body["rows"], _all_expected_faults(sent), strict=True)
        ):
            if faults:
                assert _faults(answer["error"]) == faults, (rows[position], answer)
                assert_pointers_point_into(answer["error"]["faults"], rows)
            else:
                assert_is_an_answer(found.contract, answer)
                assert _warnings(answer) == _expected_warnings(sent[position][1]), (
                    rows[position],
                    answer,
                )


def assert_is_an_answer(contract: Contract, answer: Mapping[str, Any]) -> None:
    """The answer has a value that the contract's output allows."""
    output, value = contract.output, answer["value"]
    assert answer["prediction_id"]
    if output.type == "class":
        assert value in output.classes
        assert set(answer["probabilities"]) == set(output.classes)
        shares = answer["probabilities"].values()
        assert all(-TOLERANCE <= share <= 1 + TOLERANCE for share in shares)
    elif output.type == "vector":
        assert len(value) == output.length
        assert all(math.isfinite(element) for element in value)
    else:
        assert math.isfinite(value)


def assert_same_answer(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Both answers say the same, within the tolerance of 32-bit arithmetic."""
    assert one.get("error") == other.get("error")
    assert one.get("warnings") == other.get("warnings")
    shares, others = one.get("probabilities", {}), other.get("probabilities", {})
    assert shares.keys() == others.keys()
    assert all(_near(share, others[label]) for label, share in shares.items()), (one, other)
    value, against = one.get("value"), other.get("value")
    if isinstance(value, str) and value != against:
        # Between two classes that are equally probable, the last bit may decide.
        assert _near(shares[value], shares[against]), (one, other)
    elif isinstance(value, list):
        assert all(map(_near, value, against or ())), (one, other)
    elif not isinstance(value, str):
        assert value == against or _near(value, against), (one, other)


def assert_pointers_point_into(faults: Sequence[Mapping[str, Any]], rows: Sequence[Any]) -> None:
    """Each pointer leads to something that was sent, or to the feature that is missing."""
    for fault in faults:
        _, top, position, *names = fault["pointer"].split("/")
        assert top == "rows"
        assert 0 <= int(position) < len(rows)
        name = "/".join(names).replace("~1", "/").replace("~0", "~")
        assert fault["code"] == "missing" or name in rows[int(position)], fault


def _near(one: Any, other: Any) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _faults(problem: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(fault["pointer"], fault["code"]) for fault in problem["faults"]}


def _warnings(answer: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    found = answer.get("warnings", ())
    assert all(warning["message"] for warning in found)
    return {(each["feature"], each["problem"], each["action"]) for each in found}


def _expected_warnings(expected: Mapping[str, Expected]) -> set[tuple[Any, Any, Any]]:
    acted = {name: each for name, each in expected.items() if each != CLEAN}
    return {(name, each.problem, each.action) for name, each in acted.items()}


def _all_expected_faults(
    sent: Sequence[tuple[dict[str, Any], Mapping[str, Expected]]],
) -> list[set[tuple[str, str]]]:
    return [
        {
            (f"/rows/{position}{pointer_to(name)}", each.fault)
            for name, each in expected.items()
            if each.fault
        }
        for position, (_, expected) in enumerate(sent)
    ]
