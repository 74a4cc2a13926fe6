"""What a team does to its service between two updates."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SEAMS = [
    ("pyproject.toml", "your team's dependencies go below this line", '    "attrs>=25,<27",'),
    ("pyproject.toml", "your team's training dependencies go below", '    "narwhals>=2,<3",'),
    ("pyproject.toml", "your team's tools go below this line", '    "packaging>=25,<27",'),
    (".gitignore", "your team's lines go below this line", "/notebooks/scratch/"),
]
EXPECTED_LINES = [(name, line) for name, _, line in SEAMS]


def do_the_work_of_a_team(service: Path) -> None:
    """Add dependencies at the seams, a model and words of one's own; delete an example model."""
    for name, seam, line in SEAMS:
        _add_below(service / name, seam, line)
    _change(service / "README.md", "## Where things are", "## On call\n\nAsk Ada.\n\n## Files")
    _change(service / "service.yaml", "  port: 8080", "  port: 9090")
    _change(service / "CODEOWNERS", "* @first-owner", "/models/churn/ @ada\n* @first-owner")
    _change(service / "traffic.yaml", "rollback`", "rollback`, as agreed with Ada")
    shutil.copytree(service / "models/penguin_species", service / "models/churn")
    _change(service / "models/churn/contract.yaml", "name: penguin_species", "name: churn")
    shutil.rmtree(service / "models/penguin_mass")


def _add_below(path: Path, seam: str, line: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    (at,) = [number for number, text in enumerate(lines) if seam in text]
    lines.insert(at + 1, line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{path.name} no longer holds {old!r}: choose another edit")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
