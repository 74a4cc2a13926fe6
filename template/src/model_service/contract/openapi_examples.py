"""Requests of a model with their answers, as examples of the OpenAPI document.

What happens to a dirty value is not written here a second time: the contract's own check is asked,
so that warnings and faults read as the service words them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from model_service.contract.contract import Contract, Feature
from model_service.contract.examples import Row, example_answer, example_rows
from model_service.contract.rows import ReadRows, RowReader
from model_service.contract.stub_answers import row_seeds

MOST_ROWS = 5
"""Declared examples beyond these are left out, so that the document stays readable."""
_IDS = "5f1c0a9be2d4"


def request_examples(contract: Contract) -> dict[str, Any]:
    """Return bodies that are answered with 200 and without a refused row."""
    return {
        key: {"summary": summary, "value": {"rows": rows}}
        for key, summary, rows in _requests(contract)
    }


def answer_examples(contract: Contract) -> dict[str, Any]:
    """Return the answers to `request_examples`, and one in which a row is refused."""
    reader = RowReader(contract)
    examples = {
        key: {"summary": summary, "value": _body(reader, reader.read_rows(rows))}
        for key, summary, rows in _requests(contract)
    }
    row = example_rows(contract)[0]
    refused: dict[str, Any] = {**row, contract.features[0].name: {}}
    examples["one_row_refused"] = {
        "summary": "The second row is refused, the first is answered",
        "value": _body(reader, reader.read_rows([row, refused])),
    }
    return examples


def _requests(contract: Contract) -> list[tuple[str, str, list[Row]]]:
    rows = example_rows(contract)[:MOST_ROWS]
    requests = [("one_row", "One row", rows[:1])]
    if len(rows) > 1:
        requests.append(("several_rows", "Several rows", rows))
    mended = next((f for f in contract.features if f.on_missing.action != "reject"), None)
    if mended is not None:
        requests.append(_with_missing(rows[0], mended))
    return requests


def _with_missing(row: Row, feature: Feature) -> tuple[str, str, list[Row]]:
    summary = f"{feature.name} is missing, and the answer says what was done"
    return ("a_missing_value", summary, [{**row, feature.name: None}])


def _body(reader: RowReader, read: ReadRows) -> dict[str, Any]:
    seeds = dict(zip(read.positions, row_seeds(reader.columns(read.values)), strict=True))
    return {
        "model": reader.contract.name,
        "version": "1",
        "alias": "champion",
        "request_id": f"{_IDS}-1",
        "rows": [
            _row(reader.contract, read, position, int(seeds.get(position, 0)))
            for position in range(read.count)
        ],
    }


def _row(contract: Contract, read: ReadRows, position: int, seed: int) -> dict[str, Any]:
    if position in read.faults:
        faults = [
            {"pointer": f"/rows/{position}{f.pointer}", "code": f.code, "message": f.message}
            for f in read.faults[position]
        ]
        title = "Rows rejected by the contract"
        return {"error": {"type": "/docs#problem-rows-rejected", "title": title, "faults": faults}}
    answer = example_answer(contract, seed)
    row: dict[str, Any] = {"prediction_id": f"{_IDS}-{position + 2}", "value": answer.value}
    if answer.probabilities is not None:
        row["probabilities"] = answer.probabilities
    row["warnings"] = [msgspec.to_builtins(each) for each in read.warnings.get(position, ())]
    return row
