"""That others can run it, and that it does not grow old unseen."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections import Counter
from typing import Annotated, Any

import msgspec

from model_service.files import FileError, read_yaml
from model_service.handoff.alerts import alerts_of
from model_service.handoff.drill import DrillError, read_drills
from model_service.handoff.items import checklist
from model_service.handoff.outcome import StaleError, UnmetError, proves
from model_service.handoff.plan import PlanError, plan_file, read_plan
from model_service.handoff.scratch import SCRATCH_STORES
from model_service.handoff.subject import Subject
from model_service.model_settings import read_model_settings
from model_service.prediction_log.store import open_store
from model_service.repository import git

LONGEST_SECONDS = 30
DRILL_DAYS = 90
PARTS = ("Symptom", "Query", "Action", "Rollback")


class Deprecation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An old version that callers still ask for, until the day it `ends`; `told` is when they were
    told."""

    model: str
    version: Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]*$")]
    ends: dt.date
    consumers: tuple[str, ...]
    told: dt.date


@proves("OPS-1")
def alerts_lead_to_the_runbook(subject: Subject) -> str:
    """Follow the link of every alert to its section, which must have all four parts."""
    alerts = alerts_of(subject.root)
    for name, alert in alerts.items():
        url = alert.get("annotations", {}).get("runbook_url", "")
        file, _, anchor = url.partition("#")
        page = subject.root / file
        if not file or not page.is_file():
            raise UnmetError(f"the alert {name} leads to {url or 'nowhere'}")
        parts = re.split(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        sections = dict(zip(map(_anchor_of, parts[1::2]), parts[2::2], strict=True))
        if anchor not in sections:
            raise UnmetError(f"the alert {name} leads to {url}, and there is no such section")
        lacking = [part for part in PARTS if f"**{part}.**" not in sections[anchor]]
        if lacking:
            raise UnmetError(f"{url} has no {lacking[0]}")
    return f"{len(alerts)} alerts lead to their sections"


def _anchor_of(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@proves("OPS-2")
def somebody_else_solved_a_fault(subject: Subject) -> str:
    """Read the record of drills: the newest one by somebody who did not build the models."""
    try:
        drills = read_drills(subject.repository)
    except DrillError as error:
        raise UnmetError(str(error)) from None
    log = git(subject.root, "log", "--format=%ae", "--", "models")
    commits = (log or "").casefold().split()
    if not commits:
        raise UnmetError("git cannot tell who built the models: commit them")
    author = Counter(commits).most_common(1)[0][0]
    others = [drill for drill in drills if drill.email and drill.email.casefold() != author]
    if not others:
        raise UnmetError(f"nobody but {author} has solved a drill: {subject.command} handoff drill")
    last = others[-1]
    age = (subject.today - last.began.date()).days
    if age > DRILL_DAYS:
        raise StaleError(
            f"{last.solved_by} solved a drill {age} days ago, {DRILL_DAYS} are allowed"
        )
    return f"{last.solved_by} solved {last.fault} in {last.minutes:g} minutes by {last.section}"


@proves("OPS-3")
def a_prediction_is_explained(subject: Subject) -> str:
    """Ask a running service, and explain its answers from their ids by the command."""
    asked = {
        model: subject.service.predict(model, subject.rows(model)).json["rows"]
        for model in subject.served
    }
    for model, answers in asked.items():
        id_ = answers[-1]["prediction_id"]
        _wait_until_it_is_logged(subject, id_)
        ran = subject.run_service_command(subject.scratch.root, "replay", id_, "--json")
        if ran.returncode:
            last = (ran.stdout.strip().splitlines() or ["it says nothing"])[-1]
            raise UnmetError(
                f"replay of a prediction of {model} ends with {ran.returncode}: {last}"
            )
        replayed = msgspec.json.decode(ran.stdout)
        if not replayed["is_same"] or replayed["value"] != answers[-1]["value"]:
            raise UnmetError(f"replay explains another answer of {model} than was given")
    return f"answers of {len(asked)} models are explained from their ids"


def _wait_until_it_is_logged(subject: Subject, prediction_id: str) -> None:
    store = open_store(SCRATCH_STORES["MODEL_SERVICE_STORES__PREDICTION_LOG"], subject.scratch.root)
    deadline = time.monotonic() + LONGEST_SECONDS
    try:
        while store.find(prediction_id) is None:
            if time.monotonic() > deadline:
                raise UnmetError(f"a prediction is not in the log {LONGEST_SECONDS} s later")
            time.sleep(0.1)
    finally:
        store.close()


@proves("OPS-4")
def every_item_has_a_ticket(subject: Subject) -> str:
    """Read the plan: every item that this service must meet is in a ticket that somebody has."""
    try:
        plan = read_plan(plan_file(subject.repository, "new-service", ""))
    except PlanError as error:
        raise UnmetError(str(error)) from None
    for ticket in plan.tickets:
        lacking = next((name for name in ("person", "link") if not getattr(ticket, name)), None)
        if lacking:
            raise UnmetError(
                f"handoff/plan.yaml: ticket {ticket.id} “{ticket.title}” has no {lacking}"
            )
    covered = {id_ for ticket in plan.tickets for id_ in ticket.done_when}
    wanted = [item.id for item in checklist() if item.is_asked_of(subject.settings.level)]
    lost = [id_ for id_ in wanted if id_ not in covered]
    if lost:
        raise UnmetError(f"handoff/plan.yaml: no ticket is done when {lost[0]} passes")
    if plan.launch_date != subject.settings.launch_date:
        launch = subject.settings.launch_date
        raise StaleError(f"handoff/plan.yaml is for {plan.launch_date}, launch_date is {launch}")
    return f"{len(plan.tickets)} tickets have somebody, a day and an address"


@proves("LIF-1")
def age_is_limited(subject: Subject) -> str:
    """Read what each model declares, and how old its champion is."""
    if not any("max_age" in alert["expr"] for alert in alerts_of(subject.root).values()):
        raise UnmetError("no alert tells that a model is older than its max_age_days")
    oldest = 0
    for model, champion in subject.champions.items():
        stated = read_model_settings(subject.repository, model)
        for field in ("trigger", "owner"):
            if not getattr(stated.retrain, field).strip():
                raise UnmetError(f"models/{model}/model.yaml: retrain.{field} is empty")
        trained = dt.date.fromisoformat(champion.manifest.created_at[:10])
        age = (subject.today - trained).days
        if age > stated.max_age_days:
            raise UnmetError(
                f"{model} {champion.version} is {age} days old, max_age_days is "
                f"{stated.max_age_days}: train it again"
            )
        oldest = max(oldest, age)
    return f"the oldest champion is {oldest} days old"


@proves("LIF-2")
def old_versions_end(subject: Subject) -> str:
    """Every version that is kept for callers by its number has an end that they were told."""
    path = subject.root / "handoff" / "deprecations.yaml"
    try:
        stated: Any = read_yaml(path) if path.is_file() else []
        ends = {(d.model, d.version): d for d in msgspec.convert(stated or [], list[Deprecation])}
    except (FileError, msgspec.ValidationError) as error:
        raise UnmetError(f"handoff/deprecations.yaml: {error}") from None
    kept = 0
    for model, entry in subject.traffic.models.items():
        for version in entry.pinned:
            end = ends.get((model, version))
            if end is None:
                raise UnmetError(
                    f"{model} {version} is pinned; handoff/deprecations.yaml has no end"
                )
            if end.ends < subject.today:
                raise UnmetError(f"{model} {version} should have ended on {end.ends}; it is served")
            if not end.consumers:
                raise UnmetError(f"{model} {version}: whose version is it? consumers is empty")
            kept += 1
    return f"{kept} old versions are served, each with its end"
