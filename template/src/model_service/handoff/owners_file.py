"""`CODEOWNERS`, made from the people who are named in `service.yaml` and `models/*/model.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from model_service.files import write_atomically
from model_service.handoff.codeowners import PLACES
from model_service.handoff.items import Team
from model_service.handoff.signature import path_of
from model_service.model_settings import read_model_settings
from model_service.repository import Repository
from model_service.settings import Settings

SEAM = "# --- your team's own lines go below this line ---"
HEADER = (
    "# Who is asked to review what; the last line that matches a file decides.",
    "# Made down to the seam from service.yaml and models/*/model.yaml: `%s handoff codeowners`.",
)
_ACCOUNT = re.compile(r"@[\w.-]+(/[\w.-]+)*|[^@\s]+@[^@\s]+\.[^@\s]+")


class OwnersFileError(Exception):
    """CODEOWNERS cannot be made, or not without losing what a person wrote; says what to do."""


def owners_file(repository: Repository) -> Path:
    """Return the file of the repository, wherever it is; the one at the root if there is none."""
    places = [repository.root / place for place in PLACES]
    return next((path for path in places if path.is_file()), places[0])


def made_lines(repository: Repository, settings: Settings) -> list[str]:
    """Return what stands above the seam.

    Raises:
        OwnersFileError: a model has not two different maintainers.
    """
    lines = [(pattern, owners) for pattern, owners in _owned(repository, settings) if owners]
    return [
        HEADER[0],
        HEADER[1] % settings.name,
        *(" ".join((pattern, *dict.fromkeys(owners))) for pattern, owners in lines),
        SEAM,
    ]


def with_made_lines(text: str, made: Sequence[str]) -> str:
    """Return a file in which what stands above the seam is made anew.

    Raises:
        OwnersFileError: the file has no seam, so that it is not known what a person wrote.
    """
    above, seam, below = text.partition(SEAM)
    if text.strip() and not seam:
        written = [line for line in above.splitlines() if line.strip() and line[0] != "#"]
        if len(written) > 1:
            raise OwnersFileError(
                "CODEOWNERS has lines that were written by hand and no seam. Add this line above "
                f"those that you want to keep, then run this again:\n{SEAM}"
            )
    return "\n".join(made) + (below if below.strip() else "\n")


def write_owners_file(path: Path, text: str) -> None:
    """Replace the file."""
    write_atomically(path, text.encode())


def contacts_without_account(settings: Settings) -> list[str]:
    """Return the contacts that a review cannot be asked of: those that are empty, or a channel."""
    contacts = settings.contacts
    names = ("backend", "devops", "product")
    return [name for name in names if not _accounts(getattr(contacts, name))]


def _owned(repository: Repository, settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    owners, contacts = _accounts(*settings.owners), settings.contacts
    backend, devops = _accounts(contacts.backend), _accounts(contacts.devops)
    yield "*", owners
    for name in repository.model_names():
        maintainers = _maintainers(repository, settings, name)
        if maintainers != owners:
            yield f"/models/{name}/", maintainers
        if backend:
            yield f"/models/{name}/contract.yaml", (*maintainers, *backend)
    if backend:
        yield "/handoff/contract/", (*owners, *backend)
    if devops:
        yield "/deploy/", (*owners, *devops)
        yield "/monitoring/", (*owners, *devops)
    signing: dict[Team, tuple[str, ...]] = {
        "backend": backend,
        "devops": devops,
        "product": _accounts(contacts.product),
    }
    for team, accounts in signing.items():
        signed = path_of(repository, team).relative_to(repository.root)
        yield f"/{signed.as_posix()}", accounts


def _maintainers(repository: Repository, settings: Settings, name: str) -> tuple[str, ...]:
    stated = read_model_settings(repository, name).maintainers or settings.owners
    if len({person.casefold() for person in stated}) < 2:
        raise OwnersFileError(
            f"models/{name}/model.yaml: maintainers must be two different people, not "
            f"{', '.join(stated) or 'nobody'}. One of them is always away."
        )
    return _accounts(*stated)


def _accounts(*names: str) -> tuple[str, ...]:
    return tuple(name for name in names if _ACCOUNT.fullmatch(name))
