"""What a load test found, as evidence that is bound to the versions it was measured on."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Literal

import msgspec

from model_service.files import write_atomically
from model_service.repository import Repository
from model_service.settings import Slo


class LoadEvidenceError(Exception):
    """The evidence is there and cannot be understood."""


class Step(msgspec.Struct, frozen=True):
    """So many callers at once, and how they were answered.

    `answered` is the share of requests with a 2xx, `in_time` the share of those within the SLO's
    latency. `cpu_milliseconds` is the processor time of the service for one request, None where
    the service is not on this machine.
    """

    callers: int
    requests: int
    requests_per_second: float
    answered: float
    in_time: float
    p50_milliseconds: float
    p99_milliseconds: float
    cpu_milliseconds: float | None
    keeps_slo: bool


class ModelLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One model: what its champion takes within the SLO, and what is asked of it at its peak.

    `requests_per_second` is of one process of the service (of whatever is behind a URL);
    `per_core` of one processor that does nothing else, None where it could not be measured.
    """

    model: str
    version: str
    manifest_sha256: str
    steps: tuple[Step, ...]
    requests_per_second: float
    per_core: float | None
    memory_bytes: int | None
    peak_requests_per_second: float
    broke_at: int | None


class LoadEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A whole load test. `replicas` answer the declared peaks of all models together with
    `headroom` to spare (1 is twice the peak); None if a model does not keep the SLO at all."""

    schema: Literal[1] = 1
    at: dt.datetime
    target: str
    rows_per_request: int
    slo: Slo
    headroom: float
    models: tuple[ModelLoad, ...]
    replicas: int | None


def load_evidence_file(repository: Repository) -> Path:
    """Return where the evidence is kept."""
    return repository.root / "handoff" / "evidence" / "loadtest.json"


def write_load_evidence(repository: Repository, evidence: LoadEvidence) -> Path:
    """Write the evidence, whole or not at all, and return its file."""
    path = load_evidence_file(repository)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.format(msgspec.json.encode(evidence), indent=2) + b"\n"
    write_atomically(path, content)
    return path


def read_load_evidence(repository: Repository) -> LoadEvidence | None:
    """Read the evidence; None if there is none.

    Raises:
        LoadEvidenceError: the file holds something else.
    """
    path = load_evidence_file(repository)
    try:
        return msgspec.json.decode(path.read_bytes(), type=LoadEvidence)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise LoadEvidenceError(f"{path} is not understood: {error}. Run `loadtest`.") from None
