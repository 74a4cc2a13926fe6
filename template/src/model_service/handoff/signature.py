"""Sign-offs: one file a team, each signature bound to the SHA-256 of what was signed."""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from model_service.files import sha256_of, write_atomically
from model_service.handoff.items import TEAM_NAMES, Item, Team
from model_service.handoff.outcome import StaleError, UnmetError
from model_service.repository import Repository

HEADER = (
    "# Written by `handoff sign`. A signature counts for the bytes that it was given for, only.\n"
)
NOT_THE_WORK = (":!handoff/signoff", ":!handoff/waivers.yaml", ":!handoff/drills.yaml")
"""Files of the handoff itself: who commits these last is not the author of the service."""


class SignatureError(Exception):
    """A signature that cannot be given or read; says why."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who signed what on which day; `email` is git's, as far as it is known."""

    by: str
    on: dt.date
    sha256: str
    email: str = ""
    note: str = ""


class SignOff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of one team: its signatures by item."""

    team: Team
    signatures: dict[str, Signature] = {}


def path_of(repository: Repository, team: Team) -> Path:
    """Return the file that holds a team's signatures."""
    return repository.root / "handoff" / "signoff" / f"{team}.yaml"


def read_sign_off(repository: Repository, team: Team) -> SignOff:
    """Read a team's signatures; a file that is not there holds none.

    Raises:
        SignatureError: the file is not understood.
    """
    path = path_of(repository, team)
    if not path.is_file():
        return SignOff(team)
    try:
        found = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), SignOff)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise SignatureError(f"{path} is not understood: {error}") from None
    if found.team != team:
        raise SignatureError(f"{path} holds the signatures of {found.team}, not of {team}.")
    return found


def digest_of_signed(repository: Repository, item: Item) -> str:
    """Return the SHA-256 over everything that a signature of this item is bound to.

    Raises:
        SignatureError: there is nothing to sign yet.
    """
    lines = [line for pattern in item.signs for line in _digests(repository.root, pattern)]
    if not lines:
        raise SignatureError(f"nothing to sign for {item.id}: no {' or '.join(item.signs)}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _digests(root: Path, pattern: str) -> Iterator[str]:
    glob, _, key = pattern.partition("#")
    found = root.glob(glob) if not glob.endswith("/") else (root / glob).rglob("*")
    for path in sorted(path for path in found if path.is_file()):
        if key:
            stated = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            part = msgspec.json.encode(_plain(stated.get(key)), order="sorted")
            digest = hashlib.sha256(part).hexdigest()
        else:
            digest = sha256_of(path)
        yield f"{path.relative_to(root).as_posix()}#{key} {digest}"


def _plain(value: object) -> object:
    """Return YAML as JSON takes it: dates and numbers as keys become text."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def sign(
    repository: Repository, item: Item, team: Team, by: str, note: str, today: dt.date
) -> None:
    """Write a team's signature of an item.

    Raises:
        SignatureError: the team does not sign this item, there is nothing to sign, or the author
            of the service would sign for another team.
    """
    if team not in item.signers:
        who = ", ".join(item.signers) or "nobody: a machine proves it"
        raise SignatureError(f"{item.id} is not signed by {team} but by {who}.")
    email = git(repository.root, "config", "user.email")
    if team != "data-science" and email and email == author_of_the_work(repository.root):
        raise SignatureError(
            f"{email} is the author of the last change of this service, and signs {item.id} for "
            f"{TEAM_NAMES[team]}. Let somebody of {TEAM_NAMES[team]} run this command."
        )
    signed = Signature(by, today, digest_of_signed(repository, item), email, note)
    before = read_sign_off(repository, team)
    after = SignOff(team, {**before.signatures, item.id: signed})
    path = path_of(repository, team)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(msgspec.to_builtins(after, builtin_types=[dt.date]), sort_keys=True)
    write_atomically(path, (HEADER + text).encode())


def check_signatures(repository: Repository, item: Item, today: dt.date) -> str:
    """Return who signed an item.

    Raises:
        UnmetError: a signature is missing, or given by the author of the service.
        StaleError: a signature is for other bytes, or too old.
    """
    try:
        digest = digest_of_signed(repository, item)
    except SignatureError as error:
        raise UnmetError(str(error)) from None
    author = author_of_the_work(repository.root)
    words = []
    for team in item.signers:
        signed = read_sign_off(repository, team).signatures.get(item.id)
        if signed is None:
            todo = f"{TEAM_NAMES[team]} has not signed: handoff sign {team} {item.id}"
            raise UnmetError(todo, team)
        who = f"{signed.by} of {TEAM_NAMES[team]}"
        if signed.sha256 != digest:
            what = " and ".join(item.signs)
            raise StaleError(f"{who} signed other bytes of {what} on {signed.on}", team)
        if signed.on > today:
            raise StaleError(f"{who} signed on {signed.on}, which is still to come", team)
        if item.days is not None and (today - signed.on).days > item.days:
            line = f"{who} signed on {signed.on}, more than {item.days} days ago"
            raise StaleError(line, team)
        if team != "data-science" and author and signed.email == author:
            line = f"{author} wrote the last change and signed for {TEAM_NAMES[team]}"
            raise UnmetError(line, team)
        words.append(f"{who} on {signed.on}")
    return "signed by " + ", ".join(words)


def author_of_the_work(root: Path) -> str:
    """Return the e-mail address of whoever made the last commit of the service itself."""
    return git(root, "log", "-1", "--format=%ae", "--", ".", *NOT_THE_WORK)


def git(root: Path, *arguments: str) -> str:
    """Return what git says, or "" where it cannot tell."""
    try:
        ran = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
