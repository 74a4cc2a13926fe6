"""Sign-offs: one file a team, each signature bound to the SHA-256 of what was signed."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from model_service.files import FileError, read_yaml, sha256_of, write_atomically
from model_service.handoff.items import TEAM_NAMES, Item, Team
from model_service.handoff.outcome import StaleError, UnmetError
from model_service.repository import Repository, git

HEADER = (
    "# Written by `handoff sign`. A signature counts for the bytes that it was given for, only.\n"
)
NOT_THE_WORK = (":!handoff/signoff", ":!handoff/waivers.yaml", ":!handoff/drills.yaml")
"""Files of the handoff itself: who commits these last is not the author of the service."""


class SignatureError(Exception):
    """A signature that cannot be given or read; says why."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who signed what on which day; `email` is git's, without which nobody signs for another team
    than data science: it could be the author."""

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
        found = msgspec.convert(read_yaml(path), SignOff)
    except (FileError, msgspec.ValidationError) as error:
        raise SignatureError(f"{path} is not understood: {error}") from None
    if found.team != team:
        raise SignatureError(f"{path} holds the signatures of {found.team}, not of {team}.")
    return found


def digest_of_signed(repository: Repository, item: Item) -> str:
    """Return the SHA-256 over everything that a signature of this item is bound to.

    Raises:
        SignatureError: there is nothing to sign yet.
    """
    root = repository.root
    lines = [_digest(root, *each) for pattern in item.signs for each in _signed(root, pattern)]
    if not lines:
        raise SignatureError(f"nothing to sign for {item.id}: no {' or '.join(item.signs)}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def uncommitted(repository: Repository, item: Item) -> list[str]:
    """Return the files that a signature is bound to and that git has otherwise, or not at all."""
    root = repository.root
    names = {_name(root, path) for pattern in item.signs for path, _ in _signed(root, pattern)}
    changed = git(root, "status", "--porcelain", "--untracked-files=all", "--", *sorted(names))
    return [line[3:].strip('"') for line in (changed or "").splitlines()]


def _signed(root: Path, pattern: str) -> Iterator[tuple[Path, str]]:
    """Find the files of one pattern, and the key of them that is signed ("" for all)."""
    glob, _, key = pattern.partition("#")
    found = root.glob(glob) if not glob.endswith("/") else (root / glob).rglob("*")
    return ((path, key) for path in sorted(found) if path.is_file())


def _digest(root: Path, path: Path, key: str) -> str:
    if key:
        stated = read_yaml(path) or {}
        part = msgspec.json.encode(_plain(stated.get(key)), order="sorted")
        digest = hashlib.sha256(part).hexdigest()
    else:
        digest = sha256_of(path)
    return f"{_name(root, path)}#{key} {digest}"


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _plain(value: object) -> object:
    """Return YAML as JSON takes it: dates and numbers as keys become text."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def sign(
    repository: Repository, item: Item, team: Team, by: str, note: str, today: dt.date
) -> Signature:
    """Write a team's signature of an item, and return it.

    Raises:
        SignatureError: the team does not sign this item, there is nothing to sign, or the author
            of the service would sign for another team, or could.
    """
    if team not in item.signers:
        who = ", ".join(item.signers) or "nobody: a machine proves it"
        raise SignatureError(f"{item.id} is not signed by {team} but by {who}.")
    email = setting_of_git(repository.root, "user.email")
    if team != "data-science" and not email:
        raise SignatureError(
            f"git does not know your address, so nobody can tell whether the author of the service "
            f"signs for {TEAM_NAMES[team]}: git config user.email you@example.com"
        )
    if team != "data-science" and is_author(repository.root, email):
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
    return signed


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
        if team != "data-science" and not signed.email:
            raise UnmetError(f"{who} signed without an address: it could be the author", team)
        if team != "data-science" and is_author(repository.root, signed.email):
            line = f"{signed.email} wrote the last change and signed for {TEAM_NAMES[team]}"
            raise UnmetError(line, team)
        words.append(f"{who} on {signed.on}")
    return "signed by " + ", ".join(words)


def is_author(root: Path, email: str) -> bool:
    """Whether this is the address of whoever made the last commit of the service itself."""
    author = git(root, "log", "-1", "--format=%ae", "--", ".", *NOT_THE_WORK) or ""
    return author.strip().casefold() == email.casefold()


def setting_of_git(root: Path, name: str) -> str:
    """Return a setting such as `user.email`, or "" where git has none."""
    return (git(root, "config", name) or "").strip()
