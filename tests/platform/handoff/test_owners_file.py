"""`handoff codeowners` makes CODEOWNERS of the people who are named; the team's lines stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model_service.handoff.codeowners import codeowners_of, owners_of
from model_service.handoff.owners_file import SEAM
from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.platform.handoff.stub_process import copy_of

if TYPE_CHECKING:
    from pathlib import Path

CONTACTS = """\
contacts:
  on_call: "#models"
  backend: "@acme/backend"
  devops: "devops@acme.example"
  product: "#product"
"""


@pytest.fixture
def repository(default_service: Path, tmp_path: Path) -> Repository:
    return Repository(copy_of(default_service, tmp_path / "acme-models"))


@pytest.fixture
def staffed(repository: Repository) -> Repository:
    """A service that knows whom to ask, and a model with maintainers of its own."""
    text = repository.service_file.read_text(encoding="utf-8")
    before, _, rest = text.partition("contacts:\n")
    _, _, after = rest.partition('product: ""\n')
    repository.service_file.write_text(before + CONTACTS + after, encoding="utf-8")
    maintain(repository, ["@ada", "@grace"])
    return repository


def maintain(repository: Repository, people: list[str]) -> None:
    path = repository.model_folder("penguin_mass") / "model.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"maintainers: {people}\n{text}", encoding="utf-8")


def codeowners(repository: Repository, *options: str) -> tuple[int, str]:
    ran = command(repository, "handoff", "codeowners", *options)
    return ran.returncode, ran.stdout + ran.stderr


def test_what_is_rendered_is_what_would_be_made(repository: Repository) -> None:
    before = (repository.root / "CODEOWNERS").read_bytes()
    code, told = codeowners(repository, "--check")
    assert code == 0, told
    assert "contacts.backend of service.yaml is no account" in told
    assert codeowners(repository)[0] == 0
    assert (repository.root / "CODEOWNERS").read_bytes() == before


def test_contracts_are_owned_with_backend_and_deployment_with_devops(staffed: Repository) -> None:
    code, told = codeowners(staffed, "--check")
    assert code == 1
    assert "handoff codeowners" in told
    assert codeowners(staffed)[0] == 0
    assert codeowners(staffed, "--check")[0] == 0

    lines = codeowners_of(staffed.root)
    owners = ("@first-owner", "@second-owner")
    for path, expected in {
        "README.md": owners,
        "models/penguin_species/train.py": owners,
        "models/penguin_species/contract.yaml": (*owners, "@acme/backend"),
        "models/penguin_mass/train.py": ("@ada", "@grace"),
        "models/penguin_mass/contract.yaml": ("@ada", "@grace", "@acme/backend"),
        "handoff/contract/openapi.json": (*owners, "@acme/backend"),
        "deploy/Dockerfile": (*owners, "devops@acme.example"),
        "monitoring/rules/service.yaml": (*owners, "devops@acme.example"),
        "handoff/signoff/backend.yaml": ("@acme/backend",),
        "handoff/signoff/devops.yaml": ("devops@acme.example",),
        # A channel cannot be asked for a review.
        "handoff/signoff/product.yaml": owners,
    }.items():
        assert owners_of(path, lines) == expected, path


def test_lines_of_the_team_below_the_seam_are_kept(staffed: Repository) -> None:
    path = staffed.root / "CODEOWNERS"
    path.write_text(path.read_text(encoding="utf-8") + "/docs/ @writer\n", encoding="utf-8")
    assert codeowners(staffed)[0] == 0
    assert owners_of("docs/README.md", codeowners_of(staffed.root)) == ("@writer",)
    assert path.read_text(encoding="utf-8").endswith(f"{SEAM}\n/docs/ @writer\n")


def test_a_file_without_a_seam_is_not_overwritten(staffed: Repository) -> None:
    path = staffed.root / "CODEOWNERS"
    path.write_text("* @first-owner\n/docs/ @writer\n", encoding="utf-8")
    for options, exit_code in ([], 2), (["--check"], 1):
        code, told = codeowners(staffed, *options)
        assert code == exit_code
        assert SEAM in told
    assert path.read_text(encoding="utf-8") == "* @first-owner\n/docs/ @writer\n"
    path.write_text(f"{SEAM}\n* @first-owner\n/docs/ @writer\n", encoding="utf-8")
    assert codeowners(staffed)[0] == 0


@pytest.mark.parametrize("people", [["@ada"], ["@ada", "@Ada"]])
def test_a_model_needs_two_different_maintainers(repository: Repository, people: list[str]) -> None:
    maintain(repository, people)
    code, told = codeowners(repository, "--check")
    assert code == 1
    assert "models/penguin_mass/model.yaml: maintainers must be two different people" in told


def test_a_file_elsewhere_is_the_one_that_is_written(staffed: Repository) -> None:
    (staffed.root / ".github").mkdir(exist_ok=True)
    (staffed.root / "CODEOWNERS").rename(staffed.root / ".github/CODEOWNERS")
    code, told = codeowners(staffed)
    assert code == 0
    assert ".github/CODEOWNERS is written" in told
    assert not (staffed.root / "CODEOWNERS").exists()
