"""What serves, how much of it, and that it is what was trained."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

from model_service.contract.examples import example_rows
from model_service.handoff.expectation import answered_rows, check_answer
from model_service.handoff.outcome import UnmetError, proves
from model_service.handoff.scratch import BROKEN, SECOND
from model_service.handoff.subject import Subject
from model_service.registry.loaded_version import load_version
from model_service.registry.manifest import VersionError


@proves("SRV-2")
def all_answer_side_by_side(subject: Subject) -> str:
    """Ask every model by every version that is served, and by one more that was made for this."""
    asked = 0
    for model, contract in subject.contracts.items():
        rows = [dict(row) for row in example_rows(contract)]
        champion = answered_rows(subject.service.predict(model, rows), model)
        for version in (*subject.traffic.models[model].served, SECOND):
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
