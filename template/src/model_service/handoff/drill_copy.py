"""A copy of the service for a drill, and whether it is well."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from model_service.contract.examples import example_rows
from model_service.handoff.outcome import UnmetError
from model_service.handoff.running_service import RunningService
from model_service.handoff.scratch import SCRATCH_STORES
from model_service.model_settings import read_model_settings
from model_service.prediction_log.database import StoreError
from model_service.prediction_log.store import open_store
from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import read_manifest
from model_service.registry.registry import Registry
from model_service.registry.traffic import read_traffic
from model_service.repository import Repository
from model_service.settings import read_settings

CALLERS = "callers.json"
"""What each model is sent in the copy: the part of the callers, who may be wrong as well."""
STORES = {"registry": "registry", "prediction_log": "prediction_log"}
NOT_COPIED = (".git", ".venv", "build", "prediction_log", "registry", "hooks.py", "__pycache__")
SECONDS_FOR_THE_LOG = 20


def copy_service(repository: Repository, folder: Path) -> Repository | None:
    """Copy a service with everything that answers, to stores of its own and without hooks; None if
    nothing answers."""
    settings = read_settings(repository, {})
    registry = Registry(repository.root / settings.stores.registry)
    shutil.copytree(
        repository.root, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED)
    )
    callers = {}
    for model, entry in read_traffic(repository.traffic).models.items():
        copied = folder / STORES["registry"] / model
        for version in entry.served:
            shutil.copytree(registry.folder(model, version), copied / version)
        if entry.champion:
            callers[model] = example_rows(load_version(copied / entry.champion).contract)
    copy = Repository(folder)
    stated = yaml.safe_load(copy.service_file.read_text(encoding="utf-8"))
    stated["stores"] = STORES
    copy.service_file.write_text(yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
    (folder / CALLERS).write_bytes(msgspec.json.format(msgspec.json.encode(callers), indent=2))
    return copy if callers else None


def what_is_wrong(copy: Repository) -> str | None:
    """Start the service of a copy and ask it as its callers do; return the first thing wrong."""
    settings = read_settings(copy, {})
    traffic = read_traffic(copy.traffic)
    callers = msgspec.json.decode((copy.root / CALLERS).read_bytes())
    try:
        service = RunningService(copy.root, settings=SCRATCH_STORES)
    except UnmetError as error:
        return str(error)
    try:
        service.wait_until_loaded()
        return next(
            (
                wrong
                for model, rows in callers.items()
                for wrong in (
                    _wrong_answers(service, model, rows),
                    _too_slow(service, model, rows, settings.slo.latency_milliseconds),
                    _too_old(copy, model, traffic.models[model].champion or ""),
                )
                if wrong
            ),
            _not_logged(copy, service, next(iter(callers)), next(iter(callers.values()))),
        )
    except UnmetError as error:
        return str(error)
    finally:
        service.stop()


def _wrong_answers(service: RunningService, model: str, rows: list[Any]) -> str | None:
    reply = service.predict(model, rows)
    if reply.status != 200:
        problem = reply.json
        faults = problem.get("faults") or [{"message": problem.get("detail", "")}]
        return f"callers of {model} get {reply.status}: {faults[0]['message']}"
    for answer in reply.json["rows"]:
        if "error" in answer:
            return f"callers of {model} get no answer: {answer['error']['faults'][0]['message']}"
        ignored = [w["message"] for w in answer["warnings"] if w["problem"] == "unknown_field"]
        if ignored:
            return f"callers of {model} are answered with a warning: {ignored[0]}"
    return None


def _too_slow(service: RunningService, model: str, rows: list[Any], limit: float) -> str | None:
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        service.predict(model, rows[:1])
        times.append((time.perf_counter() - begun) * 1000)
    median = sorted(times)[2]
    if median > limit:
        return f"callers of {model} wait {median:.0f} ms, {limit:g} are promised"
    return None


def _too_old(copy: Repository, model: str, version: str) -> str | None:
    manifest = read_manifest(copy.root / STORES["registry"] / model / version)
    days = (dt.datetime.now(dt.UTC).date() - dt.date.fromisoformat(manifest.created_at[:10])).days
    limit = read_model_settings(copy, model).max_age_days
    return f"version {version} of {model} is {days} days old" if days > limit else None


def _not_logged(
    copy: Repository, service: RunningService, model: str, rows: list[Any]
) -> str | None:
    reply = service.predict(model, rows[:1])
    if reply.status != 200:
        return None
    id_ = reply.json["rows"][0]["prediction_id"]
    deadline = time.monotonic() + SECONDS_FOR_THE_LOG
    store = open_store(STORES["prediction_log"], copy.root)
    try:
        while time.monotonic() < deadline:
            if store.find(id_) is not None:
                return None
            time.sleep(0.2)
    except StoreError as error:
        return f"the prediction log cannot be read: {error}"
    finally:
        store.close()
    return f"answers are not in the prediction log {SECONDS_FOR_THE_LOG} s later"
