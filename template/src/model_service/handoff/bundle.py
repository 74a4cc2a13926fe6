"""The contract bundle in `handoff/contract/`: what backend builds against, and signs.

Made from the contracts in `models/`, the settings and the catalogue of errors, and from nothing
else: the same bytes for the same repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from model_service.contract.contract import Contract
from model_service.contract.openapi_examples import answer_examples, request_examples
from model_service.contract.openapi_problems import PROBLEM_EXAMPLES
from model_service.contract.reading import read_contract
from model_service.handoff.error_catalogue import error_catalogue
from model_service.handoff.generated_files import Files, with_sums
from model_service.handoff.semantics import semantics_of
from model_service.repository import Repository
from model_service.serving.documents import served_document
from model_service.settings import Settings


def bundle_folder(repository: Repository) -> Path:
    """Return where the bundle of a repository is committed."""
    return repository.root / "handoff" / "contract"


def contracts_in(repository: Repository) -> list[Contract]:
    """Return the contract of every model as it stands in `models/`.

    Raises:
        ContractError: one of them has faults.
    """
    names = repository.model_names()
    return [read_contract(repository.model_folder(name) / "contract.yaml") for name in names]


def make_bundle(settings: Settings, contracts: Sequence[Contract]) -> Files:
    """Return every file of the bundle by its path."""
    files = {
        "openapi.json": _json(served_document(settings, contracts)),
        "errors.json": _json(error_catalogue()),
        "semantics.json": _json({c.name: semantics_of(c) for c in contracts}),
        "promises.json": _json(promises(settings)),
    }
    for contract in contracts:
        files[f"examples/{contract.name}.json"] = _json(examples_of(contract))
    return with_sums(files)


def examples_of(contract: Contract) -> list[dict[str, Any]]:
    """Return requests to a model with the answers of the stub; the ids in them are made up."""
    path = f"/v1/models/{contract.name}/predict"
    answers = answer_examples(contract)
    examples: list[dict[str, Any]] = [
        {
            "name": name,
            "summary": request["summary"],
            "request": {"method": "POST", "path": path, "body": request["value"]},
            "answer": {"status": 200, "body": answers[name]["value"]},
        }
        for name, request in request_examples(contract).items()
    ]
    refused: dict[str, Any] = {contract.features[0].name: {}}
    problem = PROBLEM_EXAMPLES[422]
    examples.append(
        {
            "name": "every_row_refused",
            "summary": "No row has an answer, so that the whole request is refused",
            "request": {"method": "POST", "path": path, "body": {"rows": [refused]}},
            "answer": {"status": 422, "type": f"/docs#problem-{problem.slug}"},
        }
    )
    return examples


def promises(settings: Settings) -> dict[str, Any]:
    """Return the limits that callers must keep, and the service level that they can count on."""
    limits = settings.limits
    return {
        "limits": {
            "body_bytes": limits.body_bytes,
            "rows_per_request": limits.rows_per_request,
            "seconds_per_request": limits.seconds_per_request,
            "waiting_rows_per_version": limits.queue_rows,
        },
        "service_level": {
            "days": 30,
            "availability": settings.slo.availability,
            "latency_milliseconds": settings.slo.latency_milliseconds,
            "latency_share": settings.slo.latency_share,
        },
        "timeout_seconds_of_callers": limits.seconds_per_request + 1,
        "key_needed": bool(settings.api_keys),
        "contacts": settings.contacts,
        "owners": settings.owners,
    }


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
