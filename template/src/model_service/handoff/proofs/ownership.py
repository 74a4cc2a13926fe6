"""Who owns what, and who can be reached."""

from __future__ import annotations

from model_service.handoff.codeowners import codeowners_of, owners_of
from model_service.handoff.outcome import UnmetError, proves
from model_service.handoff.subject import Subject
from model_service.model_settings import read_model_settings
from model_service.repository import git

PLACEHOLDERS = frozenset({"@first-owner", "@second-owner", "?", "todo", "tbd", "@todo"})


@proves("OWN-1")
def every_path_has_an_owner(subject: Subject) -> str:
    """Ask CODEOWNERS about every file, and who is asked besides its authors."""
    lines = codeowners_of(subject.root)
    if not lines:
        raise UnmetError("there is no CODEOWNERS")
    contacts = subject.settings.contacts
    for name in subject.files:
        owners = owners_of(name, lines)
        if not owners:
            raise UnmetError(f"CODEOWNERS: nobody owns {name}")
        needed = _asked_besides(name)
        who = getattr(contacts, needed) if needed else ""
        if needed and who not in owners:
            shown = who or f"contacts.{needed} of service.yaml, which is empty"
            raise UnmetError(f"CODEOWNERS: {name} is not owned with {needed} ({shown})")
    placeholder = next((o for _, owners in lines for o in owners if o in PLACEHOLDERS), None)
    if placeholder:
        raise UnmetError(f"CODEOWNERS: {placeholder} is a placeholder")
    return f"{len(subject.files)} files have owners"


def _asked_besides(name: str) -> str:
    if name.startswith("handoff/contract/") or name.endswith("/contract.yaml"):
        return "backend" if name.startswith(("handoff/", "models/")) else ""
    return "devops" if name.startswith("deploy/") else ""


@proves("OWN-2")
def two_maintainers(subject: Subject) -> str:
    """Each model has two maintainers; at level A the second one has worked in its folder."""
    shown = []
    for model in subject.contracts:
        stated = read_model_settings(subject.repository, model).maintainers
        maintainers = stated or subject.settings.owners
        people = {name.casefold() for name in maintainers} - PLACEHOLDERS
        if len(people) < 2:
            raise UnmetError(
                f"models/{model}/model.yaml: maintainers must be two different people, "
                f"not {', '.join(maintainers) or 'nobody'}"
            )
        if subject.settings.level == "A":
            log = git(subject.root, "log", "--format=%ae", "--", f"models/{model}")
            authors = (log or "").casefold().split()
            if len(set(authors)) < 2:
                raise UnmetError(f"models/{model}: all commits are by {authors[:1] or 'nobody'}")
        shown.append(f"{model}: {', '.join(maintainers)}")
    return "; ".join(shown)


@proves("OWN-3")
def decisions_are_written_down(subject: Subject) -> str:
    """Look for what is still empty in the record of the kick-off, which product signs."""
    path = subject.root / "handoff" / "kick-off.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else ["…"]
    for line in lines:
        if "…" in line or line.rstrip().endswith(":"):
            raise UnmetError(f"handoff/kick-off.md is not filled in: {line}")
    return "decisions are written down"


@proves("OWN-4")
def contacts_are_filled(subject: Subject) -> str:
    """Every contact is stated, and none is a placeholder."""
    contacts = subject.settings.contacts
    for name in ("on_call", "backend", "devops", "product"):
        value = getattr(contacts, name).strip()
        if not value or value.casefold() in PLACEHOLDERS:
            raise UnmetError(f"service.yaml: contacts.{name} is {value or 'empty'}")
    for owner in subject.settings.owners:
        if owner.casefold() in PLACEHOLDERS:
            raise UnmetError(f"service.yaml: the owner {owner} is a placeholder")
    return f"on call: {contacts.on_call}"
