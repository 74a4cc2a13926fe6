"""The page for DevOps: ports, environment, probes, resources, alerts, run, roll back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml

from model_service.handoff.pack.html import (
    Piece,
    block,
    bullets,
    joined,
    note,
    paragraph,
    piece,
    section,
    subsection,
    table,
)
from model_service.model_settings import read_model_settings
from model_service.repository import Repository
from model_service.settings import Settings, setting_names, variable_of

LEAD = (
    "One process answers for all models. It holds no state that is not in `traffic.yaml`, in the "
    "versions and in the prediction log, and it says itself when it is ready."
)
SECRET = ("api_keys", "stores.prediction_log")
"""Settings whose value may be a secret where the service runs."""
STUB = "MODEL_SERVICE_SERVER__STUB=true"
TARGETS = {
    "compose": "docker compose --file deploy/compose/compose.yaml up --build",
    "kubernetes": "kubectl apply --kustomize deploy/kubernetes/overlays/staging",
    "kserve": "kubectl apply --filename deploy/kserve/inference-service.yaml",
    "ray": "serve deploy deploy/ray/serve.yaml",
}


def sections_of(repository: Repository, settings: Settings) -> list[Piece]:
    """Return the sections of the page."""
    return [
        _run(repository, settings),
        _ports(settings),
        _probes(settings),
        _resources(repository, settings),
        _environment(settings),
        _alerts(repository),
        _roll_back(settings),
        _contacts(settings),
    ]


def _run(repository: Repository, settings: Settings) -> Piece:
    commands = [
        line for target, line in TARGETS.items() if (repository.root / "deploy" / target).is_dir()
    ]
    parts: list[object] = []
    if (repository.root / "deploy/Dockerfile").is_file():
        build = f"docker build --file deploy/Dockerfile --tag {settings.name} ."
        parts.append(block(build, "The image: no root, a read-only disk, no capabilities"))
    if commands:
        parts.append(block("\n".join(commands), "Where it runs"))
    port, image = settings.server.port, f"{settings.name}:stub"
    parts.append(
        block(
            f"docker build --file deploy/Dockerfile --target platform --tag {image} .\n"
            f"docker run --rm --publish {port}:8080 --env {STUB} \\\n"
            f'  --volume "$PWD/handoff/evidence:/srv/handoff/evidence" {image}',
            "The stub for backend's staging, before anything is trained; user 10001 must be able "
            "to write there who called it",
        )
    )
    parts.append(
        paragraph(
            "Logs are JSON lines on standard output, with `request_id`, `ml.model.name` and "
            "`ml.model.version`; no line holds a value of a caller."
        )
    )
    return section("Run", *parts)


def _ports(settings: Settings) -> Piece:
    server, monitoring = settings.server, settings.monitoring
    return section(
        "Ports",
        table(
            ("Port", "What", "Who reaches it"),
            [
                (
                    str(server.port),
                    "answers, `/metrics`, `/livez`, `/readyz`, `/docs`",
                    "callers, Prometheus, probes",
                ),
                (
                    str(monitoring.port),
                    "`/metrics` of the monitor, a process of its own",
                    "Prometheus",
                ),
            ],
        ),
        paragraph(
            f"It listens on `{server.host}`; in a container that is `0.0.0.0`. It calls nobody but "
            "the stores named below."
        ),
    )


def _probes(settings: Settings) -> Piece:
    drain, request = settings.server.drain_seconds, settings.limits.seconds_per_request
    return section(
        "Probes and stopping",
        table(
            ("Address", "200 when"),
            [
                ("`/livez`", "the process runs, also while it loads: restart it if not"),
                (
                    "`/readyz`",
                    (
                        "every champion is loaded and has answered its golden predictions as "
                        "on the day of its training; 503 while loading or stopping"
                    ),
                ),
            ],
        ),
        paragraph(
            f"After SIGTERM it says 503 at `/readyz` and answers on for {drain:g} s "
            f"(`server.drain_seconds`), then finishes what is under way, at most {request:g} s, "
            f"and ends with 0. Give it {drain + request + 5:g} s before SIGKILL."
        ),
    )


def _resources(repository: Repository, settings: Settings) -> Piece:
    rows = []
    for model in repository.model_names():
        expected = read_model_settings(repository, model).traffic
        peak = f"{expected.peak_requests_per_second:g} requests/s"
        rows.append((f"`{model}`", f"{expected.rows_per_day:,} rows a day", peak))
    stated = [
        (f"`{path.relative_to(repository.root)}`", resources)
        for path in sorted((repository.root / "deploy").rglob("*.yaml"))
        for resources in _resources_in(path)
    ]
    parts: list[object] = [table(("Model", "Expected", "At its peak"), rows)]
    if stated:
        parts.append(table(("Stated in", "Requests and limits of a process"), stated))
    parts.append(
        paragraph(
            f"`{settings.name} loadtest` says how many replicas the declared peak needs; one "
            "process uses one core and one thread for a model. A busy model moves to a deployment "
            "of its own: the same image with `MODELS=name`."
        )
    )
    return section("Resources", *parts)


def _resources_in(path: Path) -> Iterator[str]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except yaml.YAMLError:
        return
    found = {
        ", ".join(
            f"{kind} {name} {value}"
            for kind, amounts in resources.items()
            for name, value in amounts.items()
        )
        for resources in _named(documents, "resources")
        if isinstance(resources, dict) and all(isinstance(a, dict) for a in resources.values())
    }
    yield from sorted(filter(None, found))


def _named(node: Any, name: str) -> Iterator[Any]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and name in node:
        yield node[name]
    for value in values:
        yield from _named(value, name)


def _environment(settings: Settings) -> Piece:
    rows = []
    for name in setting_names():
        value = "set where it runs" if name in SECRET else attrgetter(name)(settings)
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        shown = "none" if value in ("", None, {}) else str(value)
        setting = Piece(f"<small>{piece(f'`{name}`')}</small>")
        rows.append((joined([f"`{variable_of(name)}`", setting]), shown))
    return section(
        "Environment",
        paragraph(
            "Each setting of `service.yaml` is also a variable, which wins. A name that does not "
            "exist stops the start, with the one that was probably meant. `MODELS` limits a "
            "process to some models."
        ),
        table(("Variable, and setting", "Here"), rows),
        note(
            "Secrets: the address of the prediction log, if it has a password. Keys of callers "
            "are kept as digests, which may be committed."
        ),
    )


def _alerts(repository: Repository) -> Piece:
    parts: list[object] = [
        paragraph(
            "Each has a section in `docs/runbook.md`: symptom, query, action, rollback. `page` "
            "wakes somebody, `ticket` waits for the day."
        )
    ]
    for path in sorted((repository.root / "monitoring/rules").glob("*.yaml")):
        rules = _named(yaml.safe_load(path.read_text(encoding="utf-8")), "rules")
        rows = [
            (
                f"`{rule['alert']}`",
                rule.get("labels", {}).get("severity", ""),
                rule.get("labels", {}).get("owner", ""),
                _in_words(rule.get("annotations", {}).get("description", "")),
            )
            for found in rules
            for rule in found
            if "alert" in rule
        ]
        if rows:
            shown = piece(f"`{path.relative_to(repository.root)}`")
            parts.append(subsection(shown, table(("Alert", "Kind", "Owner", "What it says"), rows)))
    boards = sorted((repository.root / "monitoring/grafana").rglob("*.json"))
    if boards:
        names = joined([piece(f"`{path.relative_to(repository.root)}`") for path in boards], ", ")
        parts.append(subsection("Dashboards", paragraph("For Grafana:", names)))
    return section("Alerts and dashboards", *parts)


def _in_words(text: str) -> str:
    """Return a description with the names of its labels in the place of their values."""
    named = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"[\1]", text)
    return " ".join(re.sub(r"\{\{.*?\}\}", "[value]", named).split())


def _roll_back(settings: Settings) -> Piece:
    return section(
        "Roll back",
        paragraph("The version of a model, without a deployment: the service follows the file."),
        block(
            f"{settings.name} list NAME\n{settings.name} rollback NAME\n"
            "git commit --message 'Roll back NAME' traffic.yaml",
            "Where `traffic.yaml` is mounted, within a second; else with the next image",
        ),
        bullets(
            [
                "A new champion that does not load never replaces one that answers.",
                f"`{settings.name} verify --all` replays the golden predictions of every version.",
                "The code: deploy the image before. Versions hold their own code and stay.",
            ]
        ),
    )


def _contacts(settings: Settings) -> Piece:
    contacts = settings.contacts
    people = [
        ("on call", contacts.on_call),
        ("DevOps", contacts.devops),
        ("owners", ", ".join(settings.owners)),
        ("launch", str(settings.launch_date or "")),
        ("level", settings.level),
    ]
    return section(
        "Whom to ask", table(("", ""), [(name, who or "not named yet") for name, who in people])
    )
