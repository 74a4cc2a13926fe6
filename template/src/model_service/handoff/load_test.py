"""A load test: more and more callers until the SLO breaks, and what that means in replicas.

Callers ask again as soon as they are answered, so that a slow service is asked less: the figures
say what it sustains, not how long a queue grows behind a rate that it cannot keep.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np

from model_service.contract.contract import Contract
from model_service.contract.examples import example_rows
from model_service.contract.reading import parse_contract
from model_service.files import sha256_of
from model_service.handoff.load_callers import Exchange, ask_for, request_of
from model_service.handoff.load_evidence import LoadEvidence, ModelLoad, Step
from model_service.model_settings import read_model_settings
from model_service.registry.manifest import MANIFEST
from model_service.registry.registry import Registry
from model_service.repository import Repository
from model_service.settings import Settings, Slo

PATIENCE_SECONDS = 10.0
WARM_UP_SECONDS = 0.5
Report = Callable[[str, Step], None]
Processor = Callable[[], float | None]
"""Returns the processor seconds that the service has used so far, None if nobody can know."""


class LoadTestError(Exception):
    """There is nothing to test, or nobody answers; says what to do."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to ask: up to `most_callers` at once, each number of them for `seconds`."""

    rows: int = 1
    seconds: float = 3.0
    most_callers: int = 256
    headroom: float = 1.0

    def caller_counts(self) -> Iterator[int]:
        """Yield 1, 2, 4, … up to the most."""
        count = 1
        while count < self.most_callers:
            yield count
            count *= 2
        yield self.most_callers


def load_test(
    repository: Repository,
    settings: Settings,
    champions: dict[str, str],
    url: str,
    plan: Plan,
    report: Report,
    *,
    headers: Sequence[tuple[str, str]] = (),
    processor: Processor = lambda: None,
    memory: dict[str, int] | None = None,
) -> LoadEvidence:
    """Ask each champion at `url` until the SLO breaks, and return what was found.

    Raises:
        LoadTestError: there is no champion, or not one request is answered.
    """
    if not champions:
        raise LoadTestError("No model has a champion to test. Train one first.")
    registry = Registry(repository.root / settings.stores.registry)
    found = []
    for model, version in champions.items():
        folder = registry.folder(model, version)
        text = (folder / "contract.yaml").read_text(encoding="utf-8")
        contract = parse_contract(text, folder / "contract.yaml", model=model)
        requests = _requests(contract, url, plan.rows, headers)
        steps = tuple(_steps(model, url, requests, settings.slo, plan, report, processor))
        kept = [step for step in steps if step.keeps_slo]
        best = max(kept, key=lambda step: step.requests_per_second, default=None)
        cost = best.cpu_milliseconds if best else None
        found.append(
            ModelLoad(
                model=model,
                version=version,
                manifest_sha256=sha256_of(folder / MANIFEST),
                steps=steps,
                requests_per_second=best.requests_per_second if best else 0.0,
                per_core=1000 / cost if cost else None,
                memory_bytes=(memory or {}).get(model),
                peak_requests_per_second=read_model_settings(
                    repository, model
                ).traffic.peak_requests_per_second,
                broke_at=None if steps[-1].keeps_slo else steps[-1].callers,
            )
        )
    return LoadEvidence(
        at=dt.datetime.now(dt.UTC).replace(microsecond=0),
        target=url,
        rows_per_request=plan.rows,
        slo=settings.slo,
        headroom=plan.headroom,
        models=tuple(found),
        replicas=replicas_for(found, plan.headroom),
    )


def replicas_for(models: Sequence[ModelLoad], headroom: float) -> int | None:
    """Return how many replicas answer all peaks at once with headroom: each model takes the share
    of a replica that its peak is of what a replica sustains. None if one sustains nothing."""
    if any(model.requests_per_second <= 0 for model in models):
        return None
    shares = (model.peak_requests_per_second / model.requests_per_second for model in models)
    return max(1, math.ceil(sum(shares) * (1 + headroom)))


def step_of(
    exchanges: Sequence[Exchange], callers: int, seconds: float, cpu: float | None, slo: Slo
) -> Step:
    """Return what so many callers met, held against the SLO."""
    times = np.array([e.seconds for e in exchanges if 200 <= e.status < 300])
    answered = len(times) / len(exchanges) if exchanges else 0.0
    in_time = float((times * 1000 <= slo.latency_milliseconds).mean()) if len(times) else 0.0
    p50, p99 = np.percentile(times, [50, 99]).tolist() if len(times) else (math.inf, math.inf)
    return Step(
        callers=callers,
        requests=len(exchanges),
        requests_per_second=round(len(times) / seconds, 1),
        answered=answered,
        in_time=in_time,
        p50_milliseconds=round(p50 * 1000, 3) if len(times) else 0.0,
        p99_milliseconds=round(p99 * 1000, 3) if len(times) else 0.0,
        cpu_milliseconds=None if cpu is None or not len(times) else cpu * 1000 / len(times),
        keeps_slo=bool(answered >= slo.availability and in_time >= slo.latency_share),
    )


def _steps(
    model: str,
    url: str,
    requests: Sequence[bytes],
    slo: Slo,
    plan: Plan,
    report: Report,
    processor: Processor,
) -> Iterator[Step]:
    for callers in plan.caller_counts():
        step = _step(url, requests, callers, slo, plan, processor)
        if not step.keeps_slo:  # something else may have kept the machine busy for a moment
            step = _step(url, requests, callers, slo, plan, processor)
        report(model, step)
        if callers == 1 and step.answered == 0:
            raise LoadTestError(f"{url} answers no request to {model} with 2xx. Ask it by hand.")
        yield step
        if not step.keeps_slo:
            return


def _step(
    url: str, requests: Sequence[bytes], callers: int, slo: Slo, plan: Plan, processor: Processor
) -> Step:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)

    async def asked() -> tuple[list[Exchange], float, float | None]:
        host = parts.hostname or ""
        how: dict[str, Any] = {"patience": PATIENCE_SECONDS, "tls": parts.scheme == "https"}
        how["callers"] = callers
        await ask_for(host, port, requests, seconds=WARM_UP_SECONDS, **how)
        begun, used = asyncio.get_running_loop().time(), processor()
        exchanges = await ask_for(host, port, requests, seconds=plan.seconds, **how)
        spent, now = asyncio.get_running_loop().time() - begun, processor()
        return exchanges, spent, None if now is None or used is None else now - used

    exchanges, seconds, cpu = _run(asked())
    return step_of(exchanges, callers, seconds, cpu, slo)


def _run(coroutine: Any) -> Any:
    if sys.platform == "win32":
        return asyncio.run(coroutine)
    import uvloop

    return uvloop.run(coroutine)


def _requests(
    contract: Contract, url: str, rows: int, headers: Sequence[tuple[str, str]]
) -> list[bytes]:
    """Return a request for each example: with so many rows, the examples in turn."""
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/v1/models/{contract.name}/predict"
    examples = example_rows(contract)
    bodies = (
        msgspec.json.encode(
            {"rows": [examples[(first + place) % len(examples)] for place in range(rows)]}
        )
        for first in range(len(examples))
    )
    return [request_of(parts.netloc, path, body, headers) for body in bodies]


def processor_seconds(pid: int) -> float | None:
    """Return the processor time of a process and its children; None where /proc does not tell."""
    try:
        ticks = _ticks(pid)
    except (OSError, ValueError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(fields[11]) + int(fields[12]) + sum(_ticks(int(child)) for child in children)


_MEASURE = """
import json, resource, sys
from pathlib import Path
from model_service.registry.loaded_version import load_version
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
folders = [Path(name) for name in sys.argv[1:]]
load_version(folders[0]).replay_golden()
kept, used, before = [], [], peak()
for folder in folders:
    kept.append(load_version(folder))
    kept[-1].replay_golden()
    used.append(peak() - before)
    before = peak()
print(json.dumps(used))
"""


def memory_of(folders: Sequence[Path]) -> list[int]:
    """Return the bytes that a process grows by for each version that it loads, libraries apart."""
    measured = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _MEASURE, *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
    )
    if measured.returncode:
        raise LoadTestError(f"A version cannot be loaded here: {measured.stderr[-300:]}")
    used: list[int] = json.loads(measured.stdout)
    return used
