"""What changed between two states of the contracts, and whom it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from model_service.contract.compatibility import Change, changes, raises_major
from model_service.contract.contract import Contract
from model_service.contract.reading import parse_contract, read_contract
from model_service.repository import Repository, git

FILE = "contract.yaml"
Contracts = Mapping[str, Contract]


class DiffError(Exception):
    """What was named is no contract, no folder of contracts and no state in git."""


class ModelDiff(msgspec.Struct, frozen=True):
    """What callers of one model may notice. A version is None where the model is not there."""

    model: str
    before: str | None
    after: str | None
    raises_major: bool
    changes: tuple[Change, ...]

    @property
    def breaking(self) -> tuple[Change, ...]:
        """The changes by which a caller may be refused or misled."""
        return tuple(change for change in self.changes if change.breaks)

    @property
    def is_announced(self) -> bool:
        """Whether nothing breaks callers, or the version says that it may."""
        return self.raises_major or not self.breaking


def contracts_at(place: str, repository: Repository) -> Contracts:
    """Return the contracts of a file, of a folder, or of a commit, branch or tag of git.

    A folder is one with a contract, one with models, or a whole repository.

    Raises:
        DiffError: there is no such thing, or it holds no contract.
        ContractError: a contract cannot be read.
    """
    path = Path(place)
    if path.exists():
        found = [read_contract(file) for file in _files_of(path)]
    else:
        found = _contracts_in_git(place, repository.root)
    if not found:
        raise DiffError(f"{place} holds no {FILE}.")
    return {contract.name: contract for contract in found}


def compare(old: Contracts, new: Contracts) -> list[ModelDiff]:
    """Return the models that differ, in alphabetical order."""
    diffs = (_diff(name, old.get(name), new.get(name)) for name in sorted({*old, *new}))
    return [diff for diff in diffs if diff.changes]


def as_markdown(diffs: list[ModelDiff]) -> str:
    """Return the comparison as a comment for those who review it."""
    if not diffs:
        return "The contracts are the same for everybody who calls.\n"
    parts = []
    for diff in diffs:
        lines = [f"### {diff.model}: {verdict_of(diff)}", ""]
        for change in sorted(diff.changes, key=lambda change: not change.breaks):
            mark = "**breaks callers**" if change.breaks else "harmless"
            lines.append(f"- {mark}: `{change.field}` {_escaped(change.text)}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def verdict_of(diff: ModelDiff) -> str:
    """Return in one sentence what callers of a model must know."""
    versions = f"{diff.before or 'none'} to {diff.after or 'none'}"
    if not diff.breaking:
        return f"nothing breaks callers ({versions})"
    if diff.is_announced:
        return f"breaks callers, and the version says so ({versions})"
    return f"breaks callers without a new major version ({versions})"


def _diff(model: str, old: Contract | None, new: Contract | None) -> ModelDiff:
    before = old.contract_version if old else None
    after = new.contract_version if new else None
    if old is None or new is None:
        change = Change("model", "is new.", breaks=False) if new else Change("model", "is gone.")
        return ModelDiff(model, before, after, False, (change,))
    return ModelDiff(model, before, after, raises_major(old, new), tuple(changes(old, new)))


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    places = (path.glob(FILE), path.glob(f"models/*/{FILE}"), path.glob(f"*/{FILE}"))
    return next((files for files in map(sorted, places) if files), [])


def _contracts_in_git(reference: str, root: Path) -> list[Contract]:
    listed = git(root, "ls-tree", "-r", "--name-only", reference, "--", "models")
    if listed is None:
        raise DiffError(f"{reference} is no file, no folder, and no commit, branch or tag of git.")
    paths = [path for path in map(Path, listed.splitlines()) if path.match(f"models/*/{FILE}")]
    return [
        parse_contract(
            git(root, "show", f"{reference}:./{path.as_posix()}") or "",
            Path(f"{reference}:{path.as_posix()}"),
            model=path.parent.name,
        )
        for path in paths
    ]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
