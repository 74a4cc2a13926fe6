"""A folder beside the repository in which its service is run with versions made for the proofs."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import msgspec
import yaml

from model_service.registry.manifest import digests_of, read_manifest, write_manifest
from model_service.registry.registry import Registry
from model_service.registry.traffic import Change, ModelTraffic, Traffic
from model_service.repository import Repository

SCRATCH_STORES = {
    "MODEL_SERVICE_STORES__REGISTRY": "registry",
    "MODEL_SERVICE_STORES__PREDICTION_LOG": "prediction_log",
}
"""Proofs write beside the repository, and never into the stores of the service."""
SECOND, BROKEN = "999999998", "999999999"
"""Versions that only the proofs know: a copy of the champion, and one with a changed byte."""

BEFORE_FEATURES = """

import functools

_features_of_before = features


@functools.wraps(_features_of_before)
def features(columns):
{code}
    return _features_of_before(columns)
"""
NOT_LINKED = ("registry", "traffic.yaml", "prediction_log", "handoff", "hooks.py", ".git", ".venv")
"""What commands write to, and hooks: nobody outside is told of what a proof does."""


def make_scratch(
    repository: Repository, registry: Registry, traffic: Traffic, folder: Path
) -> Repository:
    """Lay out a repository that serves what `traffic` says and, of each champion, a second and a
    broken version. Nothing of the real repository is written to."""
    link_repository(repository.root, folder)
    models = {}
    for model, entry in traffic.models.items():
        if entry.champion is None:
            continue
        kept = folder / "registry" / model
        kept.mkdir(parents=True)
        for version in entry.served:
            (kept / version).symlink_to(registry.folder(model, version))
        copy_version(registry.folder(model, entry.champion), kept / SECOND)
        broken = copy_version(registry.folder(model, entry.champion), kept / BROKEN)
        change_a_byte(broken)
        now = Change("2026-01-01T00:00:00Z", entry.champion, "handoff check")
        pinned = dict.fromkeys((*entry.pinned, SECOND, BROKEN))
        models[model] = msgspec.structs.replace(entry, pinned=tuple(pinned), history=(now,))
    write_traffic(folder, models)
    return Repository(folder)


def link_repository(root: Path, folder: Path) -> None:
    """Make links to everything of a repository but what commands write to."""
    for path in root.iterdir():
        if path.name not in NOT_LINKED:
            (folder / path.name).symlink_to(path)


def write_traffic(folder: Path, models: dict[str, ModelTraffic]) -> None:
    """Write a `traffic.yaml`."""
    text = yaml.safe_dump(msgspec.to_builtins(Traffic(models)))
    (folder / "traffic.yaml").write_text(text, encoding="utf-8")


def copy_version(source: Path, target: Path) -> Path:
    """Copy a version to another number, whole and sealed."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    seal(target)
    return target


def seal(version: Path) -> None:
    """Make the manifest of a version agree with its folder's name and its files."""
    manifest = msgspec.structs.replace(
        read_manifest(version), version=version.name, files=digests_of(version)
    )
    write_manifest(version, manifest)


def run_before_features(version: Path, code: str) -> None:
    """Let `features()` of a version begin with some lines of code, and seal it again."""
    with (version / "features.py").open("a", encoding="utf-8") as source:
        source.write(BEFORE_FEATURES.format(code=textwrap.indent(code, "    ")))
    seal(version)


def change_a_byte(version: Path) -> None:
    """Change the last byte of a version's model file, as a bad disk would."""
    path = version / read_manifest(version).model_file
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
