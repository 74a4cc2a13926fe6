"""Versions of the template to update from: the released ones, and one made older on purpose."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from tests.rendering import PARTS, ROOT, Template

RELEASED_FILE = Path(__file__).with_name("released_versions.txt")
NEWEST = "v9999.0.0"
OLDER = "v0.0.1"

# What the older version had different, as real versions differ: (file, now, then). The lines beside
# a team's own are among them, because that is where updates of other templates conflict.
THEN: list[tuple[str, str, str]] = [
    ("config/constraints.txt", "rich==", "rich==14."),
    ("config/ruff.toml", "line-length = 100", "line-length = 99"),
    ("Makefile.jinja", "## Install the service and its tools", "## Install the tools"),
    ("pyproject.toml.jinja", '"uvloop>=0.21,<1;', '"uvloop>=0.20,<1;'),
    ("pyproject.toml.jinja", '"skops>=0.13,<1"', '"skops>=0.12,<1"'),
    ("pyproject.toml.jinja", '"uv>=0.9,<1"', '"uv>=0.8,<1"'),
    (".gitignore", "# Secrets stay out of git.\n.env\n", ""),
    ("README.md.jinja", "## The first five commands", "## Commands"),
    ("service.yaml.jinja", "queue_rows: 20000", "queue_rows: 10000"),
    ("src/model_service/files.py", '"""', '"""An older way: '),
]
GONE_SINCE = "docs/only-in-the-older-version.md"


def released_versions() -> dict[str, str]:
    """The commit of each released version, by the name of the version."""
    lines = RELEASED_FILE.read_text(encoding="utf-8").splitlines()
    entries = (line.split() for line in lines if line.strip() and not line.startswith("#"))
    return dict(entry for entry in entries if len(entry) == 2)


def make_older(template: Template) -> None:
    """Turn the files of `template`, which are those of the working tree, into the older version.

    Raises:
        ValueError: a line of `THEN` is no longer in its file, so the test would check nothing.
    """
    for name, now, then in THEN:
        path = template.folder / "template" / name
        text = path.read_text(encoding="utf-8")
        if now not in text:
            raise ValueError(f"{name} no longer holds {now!r}: choose another line in {__file__}")
        path.write_text(text.replace(now, then, 1), encoding="utf-8")
    (template.folder / "template" / GONE_SINCE).write_text("An old page.\n", encoding="utf-8")


def take_the_commit(template: Template, commit: str) -> None:
    """Give `template` the files that it had at `commit` of this repository."""
    archived = subprocess.run(
        [
            "git",
            "-C",
            ROOT,
            "archive",
            "--format=tar",
            commit,
            *PARTS,
        ],
        capture_output=True,
        check=False,
    )
    if archived.returncode:
        raise LookupError(
            f"The released commit {commit} is not in this clone: fetch its history with "
            f"`git fetch --unshallow`. Git said: {archived.stderr.decode()}"
        )
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(template.folder, filter="data")


def template_with_history(folder: Path, version: str) -> Template:
    """A template with two tags: `version`, released or made older, and then the working tree."""
    template = Template(folder)
    if version == OLDER:
        template.take_the_working_tree()
        make_older(template)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        take_the_commit(template, released_versions()[version])
    template.tag(version if version.startswith("v") else f"v{version}")
    template.take_the_working_tree()
    template.tag(NEWEST)
    return template


VERSIONS = [OLDER, *released_versions()]
