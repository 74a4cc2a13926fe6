"""`update`: a newer template, as a change that can be read and undone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from model_service.cli.ownership import ANSWERS, lines_of, rendered_at
from model_service.cli.terminal import NOT_IN_ORDER, literal, say, state, stop
from model_service.repository import git

if TYPE_CHECKING:
    from model_service.repository import Repository

COPIER = [sys.executable, "-m", "copier"]
NOTES = Path("docs") / "template-changes.md"


def add_to(app: typer.Typer) -> None:
    """Add this command to the service's command."""
    app.command("update", rich_help_panel="Repository")(update)


def update(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=VALUE", help="Answer a question anew."),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="Default: the newest.")
    ] = None,
    accept_deletions: Annotated[
        bool, typer.Option("--accept-deletions", help="Delete files although they were edited.")
    ] = False,
) -> None:
    """Bring in a newer template; your files stay as they are, conflicts are listed."""
    repository: Repository = context.obj
    root = repository.root
    _refuse_unready(root)
    arguments = ["--defaults", "--quiet"]
    for answer in data or []:
        arguments += ["--data", answer]
    if to:
        arguments += ["--vcs-ref", to]
    say("[dim]·[/] trying the update on a copy")
    lost = _edited_files_lost(root, arguments)
    if lost and not accept_deletions:
        stop(
            "this would delete files that you have edited:\n  "
            + "\n  ".join(lost)
            + "\nMove what you need, or say --accept-deletions.",
            NOT_IN_ORDER,
        )
    notes_before = _notes(root)
    _run_copier(root, arguments)
    conflicts = lines_of(git(root, "diff", "--name-only", "-z", "--diff-filter=U"))
    for line in _new_notes(notes_before, _notes(root)):
        say(literal(line))
    if conflicts:
        stop(
            "the template and you changed the same lines. Mend, then `git add` and commit:\n  "
            + "\n  ".join(conflicts),
            NOT_IN_ORDER,
        )
    changed = lines_of(git(root, "status", "--porcelain", "-z"))
    say(f"{state(True)} {len(changed)} files changed. Read `git diff`, then: make setup check test")


def _refuse_unready(root: Path) -> None:
    if not (root / ANSWERS).is_file():
        stop(f"{root / ANSWERS} is not there: this repository cannot be updated.")
    changed = git(root, "status", "--porcelain")
    if changed is None:
        stop(f"{root} is not in git. Run: git init && git add --all && git commit -m Start")
    if changed:
        stop("there are changes that are not committed; commit or stash them first:\n" + changed)


def _run_copier(root: Path, arguments: list[str]) -> None:
    done = subprocess.run(  # noqa: S603
        [*COPIER, "update", *arguments, str(root)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
        reason = next((line for line in lines if "fatal: " in line), lines[-1])
        reason = reason.rpartition("fatal: ")[2].rstrip(".")
        stop(f"Copier could not update: {reason}. {moved(root)}")


def moved(root: Path) -> str:
    """Return where the template is looked for, and what to do if it is no longer there."""
    from model_service.effective_settings import masked

    stated = yaml.safe_load((root / ANSWERS).read_text(encoding="utf-8"))
    return (
        f"The template is looked for at {masked(str(stated.get('_src_path')))}. If it is elsewhere "
        f"now, write its path or URL as _src_path into {ANSWERS}, commit that, and update again."
    )


def _edited_files_lost(root: Path, arguments: list[str]) -> list[str]:
    """Return the files that an update would delete although they were edited here.

    The update runs on a clone, because only Copier knows what it deletes.
    """
    base = rendered_at(root)
    edited = set(lines_of(git(root, "diff", "--name-only", "-z", "--no-renames", base or "HEAD")))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / root.name
        if git(root, "clone", "--quiet", "--local", str(root), str(copy)) is None:
            stop(f"{root} could not be cloned to try the update: does it have a commit?")
        _run_copier(copy, arguments)
        deleted = lines_of(git(copy, "ls-files", "--deleted", "-z"))
    return sorted(edited & set(deleted))


def _notes(root: Path) -> list[str]:
    path = root / NOTES
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _new_notes(before: list[str], after: list[str]) -> list[str]:
    """Return the lines of the sections that the update added to the template's changes."""
    known = {line for line in before if line.startswith("## ")}
    new: list[str] = []
    inside = False
    for line in after:
        if line.startswith("## "):
            inside = line not in known
        if inside:
            new.append(line)
    return new
