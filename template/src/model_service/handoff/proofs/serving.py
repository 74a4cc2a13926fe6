"""What serves, how much of it, and that it is what was trained."""

from __future__ import annotations

import re
import shutil
import tomllib
from importlib import metadata

import msgspec

from model_service.files import sha256_of
from model_service.handoff.expectation import answered_rows, check_answer
from model_service.handoff.load_evidence import read_load_evidence
from model_service.handoff.manifests import PROBES, containers_of, manifests_of
from model_service.handoff.outcome import SkippedError, StaleError, UnmetError, proves
from model_service.handoff.scratch import BROKEN, SECOND
from model_service.handoff.subject import Subject
from model_service.model_settings import read_model_settings
from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import MANIFEST, VersionError

LOAD_TEST_DAYS = 30
ASK_INSIDE = """\
import subprocess, sys, time, urllib.request as web
service = subprocess.Popen([sys.executable, "-m", "model_service", "serve"], stderr=-3, stdout=-3)
for _ in range(600):
    try:
        ready = web.urlopen("http://127.0.0.1:8080/readyz", timeout=2).status == 200
        break
    except OSError:
        time.sleep(0.1)
else:
    sys.exit("the service in the image does not become ready")
from model_service.contract.examples import example_rows
from model_service.contract.reading import read_contract
from pathlib import Path
import json
for path in sorted(Path("models").glob("*/contract.yaml")):
    body = json.dumps({"rows": example_rows(read_contract(path))}).encode()
    address = f"http://127.0.0.1:8080/v1/models/{path.parent.name}/predict"
    asked = web.Request(address, body, {"content-type": "application/json"})
    answer = json.load(web.urlopen(asked, timeout=30))
    assert all("value" in row for row in answer["rows"]), answer
    print(path.parent.name, "version", answer["version"], "answers", end="; ")
print("uid", __import__("os").getuid())
"""
"""Runs inside the container, so that no port needs to be published."""


@proves("SRV-2")
def all_answer_side_by_side(subject: Subject) -> str:
    """Ask every model by every version that is served, and by one more that was made for this."""
    asked = 0
    for model, contract in subject.served.items():
        rows = subject.rows(model)
        champion = answered_rows(subject.service.predict(model, rows), model)
        entry = subject.traffic.models[model]
        for version in dict.fromkeys((entry.champion, *entry.pinned, SECOND)):
            assert version is not None
            reply = subject.service.predict(model, rows, version)
            answers = answered_rows(reply, f"{model} {version}")
            if reply.json["version"] != version:
                raise UnmetError(f"{model} {version}: answered by {reply.json['version']}")
            for answer, other in zip(answers, champion, strict=True):
                check_answer(contract, answer, f"{model} {version}")
                if version == SECOND and answer["value"] != other["value"]:
                    raise UnmetError(f"{model}: a copy of the champion answers otherwise")
            asked += 1
    return f"{asked} versions of {len(subject.contracts)} models answer in one process"


@proves("SRV-6")
def libraries_are_those_of_training(subject: Subject) -> str:
    """Look for a pin of each dependency, compare what is installed with what trained, and let a
    changed file be loaded."""
    _check_pins(subject)
    for model, champion in subject.champions.items():
        if champion.manifest.pickle:
            raise UnmetError(f"{model} {champion.version} is a pickle: loading it runs its code")
        for name, version in champion.manifest.libraries.items():
            installed = _installed(name)
            if installed is not None and installed != version:
                trained = f"{model} {champion.version} was trained with {name} {version}"
                raise UnmetError(f"{trained}, installed is {installed}")
        broken = subject.scratch.root / "registry" / model / BROKEN
        try:
            load_version(broken)
        except VersionError as error:
            if error.code == "digest_mismatch":
                continue
            raise UnmetError(f"{model}: a changed file is refused as {error.code}") from None
        raise UnmetError(f"{model}: a version with a changed file is loaded")
    return "dependencies are pinned, libraries are those of training, changed files are refused"


def _check_pins(subject: Subject) -> None:
    project = tomllib.loads((subject.root / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    wanted = [*project["dependencies"], *project.get("optional-dependencies", {}).get("train", [])]
    constraints = (subject.root / "config" / "constraints.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([\w.-]+)==", constraints, re.MULTILINE))
    for requirement in wanted:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
        if name not in pinned:
            raise UnmetError(f"config/constraints.txt does not pin {name}")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@proves("SRV-1")
def the_image_predicts(subject: Subject) -> str:
    """Run the image of this commit as production does, and ask it."""
    engine = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if engine is None:
        raise SkippedError("neither podman nor docker is here: no image can be run")
    version = subject.run("git", "describe", "--tags", "--always", "--dirty").stdout.strip()
    image = f"{subject.settings.name}:{version}"
    looked = subject.run(engine, "image", "inspect", image)
    if looked.returncode:
        raise SkippedError(f"no image {image} here: make image DOCKER={engine}")
    user = str(msgspec.json.decode(looked.stdout)[0]["Config"].get("User", ""))
    if user.partition(":")[0] in ("", "0", "root"):
        raise UnmetError(f"{image} runs as root")
    locked = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp"]
    command = [engine, "run", "--rm", *locked, "--entrypoint=python", image, "-c", ASK_INSIDE]
    ran = subject.run(*command, seconds=120)
    if ran.returncode:
        raise UnmetError(f"{image}: {ran.stdout.strip().splitlines()[-1]}")
    return f"{image} runs as {user} on a read-only disk: {ran.stdout.strip().splitlines()[-1]}"


@proves("SRV-3")
def the_declared_load_is_answered(subject: Subject) -> str:
    """Read what `loadtest` measured of exactly these champions, for exactly this promise."""
    evidence = read_load_evidence(subject.repository)
    todo = f"{subject.command} loadtest"
    if evidence is None:
        raise UnmetError(f"nobody has measured it: {todo}")
    age = (subject.today - evidence.at.date()).days
    if age > LOAD_TEST_DAYS:
        raise StaleError(f"measured {age} days ago, {LOAD_TEST_DAYS} are allowed: {todo}")
    if evidence.slo != subject.settings.slo:
        raise StaleError(f"measured for another service level than service.yaml promises: {todo}")
    measured = {load.model: load for load in evidence.models}
    for model, champion in subject.champions.items():
        load = measured.get(model)
        folder = subject.registry.folder(model, champion.version)
        if load is None or load.manifest_sha256 != sha256_of(folder / MANIFEST):
            raise StaleError(f"{model} {champion.version} was not measured: {todo}")
        peak = read_model_settings(subject.repository, model).traffic.peak_requests_per_second
        if peak > load.peak_requests_per_second:
            raise StaleError(
                f"{model}: measured for a peak of {load.peak_requests_per_second:g}: {todo}"
            )
    if evidence.replicas is None:
        raise UnmetError("a model does not keep its service level even for a single caller")
    memory = max((load.memory_bytes or 0 for load in evidence.models), default=0) // 2**20
    return (
        f"{evidence.replicas} replicas answer twice the peak, {memory} MiB each ({evidence.at:%F})"
    )


@proves("SRV-5")
def manifests_are_complete(subject: Subject) -> str:
    """Read the manifests of production, and ask a running service what their probes ask."""
    if not (subject.root / "deploy" / "kubernetes").is_dir():
        raise SkippedError(
            "deploy/ has no manifests of Kubernetes: copier update --data deployment"
        )
    manifests = manifests_of(subject)
    kinds = {manifest["kind"] for manifest in manifests}
    for needed in ("PodDisruptionBudget", "NetworkPolicy"):
        if needed not in kinds:
            raise UnmetError(f"deploy/kubernetes has no {needed}")
    if not kinds & {"HorizontalPodAutoscaler", "ScaledObject"}:
        raise UnmetError("deploy/kubernetes scales nothing: production has no autoscaler")
    paths = set()
    for where, container in containers_of(manifests):
        resources = container.get("resources", {})
        if not resources.get("requests", {}).get("cpu"):
            raise UnmetError(f"{where} requests no cpu")
        if not resources.get("limits", {}).get("memory"):
            raise UnmetError(f"{where} has no limit of memory")
        if where.endswith("/service"):
            for probe in PROBES:
                if probe not in container:
                    raise UnmetError(f"{where} has no {probe}")
                paths.add(container[probe]["httpGet"]["path"])
    if not paths:
        raise UnmetError("deploy/kubernetes has no container of the name service")
    for path in sorted(paths):
        if subject.service.ask("GET", path).status != 200:
            raise UnmetError(f"the service does not answer the probe {path}")
    return f"{len(manifests)} manifests; probes {', '.join(sorted(paths))} are answered"
