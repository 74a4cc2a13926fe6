"""A repository with as many models and versions as one likes, all of them copies of a few."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import yaml

from model_service.registry.manifest import digests_of, read_manifest, write_manifest
from tests.platform.serving.server_process import SOURCES


def published_as(source: Path, root: Path, model: str, version: str) -> None:
    """Publish a trained version again as another one."""
    folder = root / "registry" / model / version
    shutil.copytree(source, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    contract = folder / "contract.yaml"
    stated = yaml.safe_load(contract.read_text())
    contract.write_text(yaml.safe_dump({**stated, "name": model}, sort_keys=False))
    manifest = msgspec.structs.replace(read_manifest(folder), model=model, version=version)
    write_manifest(folder, msgspec.structs.replace(manifest, files=digests_of(folder)))


def repository_with(sources: list[Path], root: Path, models: int, versions: int) -> None:
    """Make a repository that serves so many models in so many versions."""
    traffic = {}
    for number in range(models):
        name = f"model_{number:03}"
        (root / "models" / name).mkdir(parents=True)
        for version in range(1, versions + 1):
            published_as(sources[number % len(sources)], root, name, str(version))
        shutil.copy(root / "registry" / name / "1/contract.yaml", root / "models" / name)
        pinned = [str(version) for version in range(1, versions)]
        traffic[name] = {"champion": str(versions), "pinned": pinned, "history": []}
    (root / "traffic.yaml").write_text(yaml.safe_dump({"models": traffic}))
    (root / "service.yaml").write_text("name: many\n")
    (root / "src").symlink_to(SOURCES)
