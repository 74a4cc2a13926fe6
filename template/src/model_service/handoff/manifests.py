"""What `deploy/` asks a cluster for, as the proofs read it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from model_service.handoff.outcome import UnmetError
from model_service.handoff.subject import Subject

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
Manifest = dict[str, Any]


def manifests_of(subject: Subject) -> list[Manifest]:
    """Return every manifest of Kubernetes: of production as kubectl makes it where that is there,
    and as the files say where it is not."""
    folder = subject.root / "deploy" / "kubernetes"
    production = folder / "overlays" / "production"
    if shutil.which("kubectl") and production.is_dir():
        ran = subject.run("kubectl", "kustomize", str(production))
        if ran.returncode:
            raise UnmetError(f"kubectl kustomize: {ran.stdout.strip().splitlines()[0]}")
        return _documents(ran.stdout, production)
    paths = sorted({*folder.glob("base/*.yaml"), *folder.glob("components/autoscaling/*.yaml")})
    return [each for path in paths for each in _documents(path.read_text(encoding="utf-8"), path)]


def _documents(text: str, path: Path) -> list[Manifest]:
    try:
        return [each for each in yaml.safe_load_all(text) if each]
    except yaml.YAMLError as error:
        raise UnmetError(f"{path}: {error}") from None


def containers_of(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield every container of a deployment with its address."""
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                yield f"{manifest['metadata']['name']}/{container['name']}", container
