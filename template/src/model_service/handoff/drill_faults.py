"""The faults that a drill can plant into a copy of the service."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from model_service.contract.contract import Contract
from model_service.contract.examples import example_value
from model_service.handoff.drill_copy import CALLERS, STORES
from model_service.handoff.scratch import change_a_byte, copy_version, run_before_features, seal
from model_service.model_settings import read_model_settings
from model_service.registry.golden import GOLDEN, read_golden, write_golden
from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import read_manifest, write_manifest
from model_service.registry.traffic import promote, read_traffic
from model_service.repository import Repository
from model_service.settings import read_settings

NEW_CATEGORY = "a category that nobody has seen"


def unseen_category(copy: Repository) -> None:
    """Callers begin to send a category that the contract refuses."""
    for model, version, contract in _champions(copy):
        feature = next((f.name for f in contract.features if f.type == "category"), None)
        if feature is None:
            continue
        for path in (version / "contract.yaml", copy.model_folder(model) / "contract.yaml"):
            stated = yaml.safe_load(path.read_text(encoding="utf-8"))
            stated["features"][feature]["on_unknown"] = "reject"
            path.chmod(0o644)
            path.write_text(yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
        golden = read_golden((version / GOLDEN).read_bytes())
        (version / GOLDEN).chmod(0o644)
        kept = [
            g for g in golden if (feature, "unknown_category") not in {w[:2] for w in g.warnings}
        ]
        write_golden(version, kept)
        _seal(version)
        _send(copy, model, {feature: NEW_CATEGORY})
        return


def renamed_field(copy: Repository) -> None:
    """The callers' system calls a field by another name since its last release."""
    model, _, contract = next(_champions(copy))
    name = contract.features[-1].name
    _send(copy, model, {f"{name}_v2": example_value(contract.features[-1])}, without=name)


def corrupt_artefact(copy: Repository) -> None:
    """A byte of a champion's file is not what it was."""
    _, version, _ = next(_champions(copy))
    change_a_byte(version)


def stale_model(copy: Repository) -> None:
    """A champion was trained longer ago than its model allows."""
    model, version, _ = next(_champions(copy))
    days = read_model_settings(copy, model).max_age_days + 30
    trained = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    _seal(version, created_at=trained.isoformat(timespec="seconds").replace("+00:00", "Z"))


def slow_feature(copy: Repository) -> None:
    """A new champion computes a feature that takes longer than the whole answer may."""
    model, version, _ = next(_champions(copy))
    seconds = 3 * read_settings(copy, {}).slo.latency_milliseconds / 1000
    slow = version.with_name(str(1 + max(int(path.name) for path in version.parent.iterdir())))
    copy_version(version, slow)
    run_before_features(slow, f"import time\n\ntime.sleep({seconds:g})")
    promote(copy.traffic, model, slow.name, by="promote")


def full_disk(copy: Repository) -> None:
    """The disk of the prediction log has no room left."""
    folder = copy.root / STORES["prediction_log"]
    folder.mkdir(exist_ok=True)
    (folder / "predictions.sqlite").symlink_to("/dev/full")


FAULTS: dict[str, Callable[[Repository], None]] = {
    "unseen-category": unseen_category,
    "renamed-field": renamed_field,
    "corrupt-artefact": corrupt_artefact,
    "stale-model": stale_model,
    "slow-feature": slow_feature,
    "full-disk": full_disk,
}


def _champions(copy: Repository) -> Iterator[tuple[str, Path, Contract]]:
    """Yield each model with the folder of its champion and its contract."""
    for model, entry in read_traffic(copy.traffic).models.items():
        if entry.champion:
            version = copy.root / STORES["registry"] / model / entry.champion
            yield model, version, load_version(version).contract


def _send(copy: Repository, model: str, fields: dict[str, Any], without: str = "") -> None:
    """Let the callers of a model send other fields."""
    path = copy.root / CALLERS
    callers = msgspec.json.decode(path.read_bytes())
    for row in callers[model]:
        row.pop(without, None)
        row.update(fields)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(callers), indent=2))


def _seal(version: Path, **fields: str) -> None:
    for path in version.iterdir():
        path.chmod(0o644)
    write_manifest(version, msgspec.structs.replace(read_manifest(version), **fields))
    seal(version)
