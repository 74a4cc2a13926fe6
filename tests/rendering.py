"""Renders and updates services from the template as it stands, uncommitted changes included.

What `pytest-copie` cannot do: answers are given as answers (unknown ones are refused), nothing is
trusted, the settings of the person who runs the tests stay out, and updates go from tag to tag.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copier
import yaml

ROOT = Path(__file__).parent.parent
# Where the tools are that were installed beside this Python: nothing needs to be activated.
TOOLS = Path(sys.executable).parent
QUESTIONS: dict[str, Any] = {
    name: question
    for document in [(ROOT / "copier.yml").read_text(encoding="utf-8").split("\n---\n")[0]]
    for name, question in yaml.safe_load(document).items()
    if not name.startswith("_")
}
# What Copier reads; the rest of this repository is not needed to render or update.
PARTS = ("copier.yml", "questions", "template", "CHANGELOG.md")
IDENTITY = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.invalid"]


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder`, without the settings of the machine, and return what it printed."""
    command = ["git", "-C", str(folder), *IDENTITY, "-c", "commit.gpgsign=false", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"`git {' '.join(arguments)}` failed in {folder}: {ran.stderr}")
    return ran.stdout


def commit_all(folder: Path, message: str = "Work of the team") -> None:
    """Commit everything below `folder`, which becomes a repository if it was none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, git's own left out, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if ".git" not in path.relative_to(folder).parts
    }


def working_files() -> list[Path]:
    """The files of this repository that are tracked or would be: no caches, nothing ignored."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    paths = (Path(name) for name in sorted(set(listed.split("\0")) - {""}))
    return [path for path in paths if (ROOT / path).is_file()]


@dataclass(frozen=True)
class Template:
    """A repository of its own that holds versions of the template as tags."""

    folder: Path

    @classmethod
    def of_the_working_tree(cls, folder: Path, tag: str = "v9999.0.0") -> Template:
        """Copy the template as it stands into `folder`, and tag it as the newest version."""
        template = cls(folder)
        template.take_the_working_tree()
        template.tag(tag)
        return template

    def take_the_working_tree(self) -> None:
        """Replace the files of the template by those of the working tree, without a commit."""
        for name in ["questions", "template"]:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in working_files():
            if path.parts[0] in PARTS:
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, self.folder / path)

    def tag(self, name: str) -> None:
        """Commit the files of the template as the version `name`."""
        commit_all(self.folder, f"Template {name}")
        git(self.folder, "tag", name)

    def render(self, folder: Path, *, version: str | None = None, **answers: Any) -> Path:
        """Copy a service to `folder`, with the default for every question not answered.

        Raises:
            KeyError: an answer to a question that does not exist, so that no test checks nothing.
            ValueError: an answer that its question refuses, with what the question said.
        """
        self._refuse_unknown(answers)
        copier.run_copy(
            str(self.folder),
            folder,
            data=answers,
            vcs_ref=version,
            defaults=True,
            quiet=True,
            unsafe=False,
        )
        return folder

    def update(self, service: Path, *, version: str | None = None, **answers: Any) -> list[str]:
        """Update a committed service, and return the files that are left with a conflict."""
        self._refuse_unknown(answers)
        copier.run_update(
            service,
            data=answers,
            vcs_ref=version,
            defaults=True,
            overwrite=True,
            quiet=True,
            unsafe=False,
        )
        unmerged = git(service, "ls-files", "--unmerged").splitlines()
        return sorted({line.split("\t")[1] for line in unmerged})

    @staticmethod
    def _refuse_unknown(answers: dict[str, Any]) -> None:
        unknown = sorted(set(answers) - set(QUESTIONS))
        if unknown:
            raise KeyError(f"copier.yml asks no {unknown}; it asks {sorted(QUESTIONS)}")
