"""`contract diff` between files, folders and states of git, as its user types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from model_service.repository import Repository
from tests.platform.commands.command import command
from tests.rendering import commit_all, git

if TYPE_CHECKING:
    from pathlib import Path

CONTRACT = """\
name: {name}
contract_version: "{version}"
description: What it weighs.
features:
  size: {{type: number, minimum: {minimum}}}
  kind: {{type: category, categories: [apple, pear], on_missing: {missing}}}
output: {{name: weight, type: number, unit: g, meaning: In grams.}}
"""


def write(
    root: Path,
    name: str = "fruit",
    version: str = "1.0",
    minimum: float = 0,
    missing: str = "reject",
) -> Path:
    path = root / "models" / name / "contract.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = CONTRACT.format(name=name, version=version, minimum=minimum, missing=missing)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository whose contract is committed and tagged as v1."""
    root = tmp_path / "acme"
    write(root)
    (root / "service.yaml").write_text("name: acme\n", encoding="utf-8")
    commit_all(root)
    git(root, "tag", "v1")
    return Repository(root)


def test_what_was_not_changed_is_the_same(repository: Repository) -> None:
    told = command(repository, "contract", "diff", "v1")
    assert told.returncode == 0, told.stderr
    assert "the same" in told.stdout
    assert "the same" in command(repository, "contract", "diff", "v1", "--markdown").stdout


def test_a_break_is_named_and_ends_with_1_unless_the_version_says_so(
    repository: Repository,
) -> None:
    write(repository.root, minimum=10, missing="pass")
    told = command(repository, "contract", "diff", "v1")
    assert told.returncode == 1
    assert "without a new major version (1.0 to 1.0)" in told.stdout
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["breaks", "features.size.minimum"] in [line[:2] for line in lines]
    assert ["harmless", "features.kind.on_missing"] in [line[:2] for line in lines]

    write(repository.root, minimum=10, missing="pass", version="2.0")
    told = command(repository, "contract", "diff", "v1")
    assert told.returncode == 0
    assert "and the version says so (1.0 to 2.0)" in told.stdout


def test_the_direction_decides_what_breaks(repository: Repository, tmp_path: Path) -> None:
    old = repository.models / "fruit/contract.yaml"
    new = write(tmp_path / "other", minimum=10)
    assert command(repository, "contract", "diff", str(old), str(new)).returncode == 1
    assert command(repository, "contract", "diff", str(new), str(old)).returncode == 0


def test_models_that_come_are_harmless_and_models_that_go_are_not(repository: Repository) -> None:
    write(repository.root, "veg")
    commit_all(repository.root)
    git(repository.root, "tag", "v2")
    came = command(repository, "contract", "diff", "v1", "v2", "--json")
    assert came.returncode == 0
    (model,) = json.loads(came.stdout)["models"]
    assert (model["model"], model["before"], model["after"]) == ("veg", None, "1.0")
    went = command(repository, "contract", "diff", "v2", "v1", "--json")
    assert went.returncode == 1
    assert json.loads(went.stdout)["is_announced"] is False


def test_a_comment_for_a_pull_request_names_breaks_first(repository: Repository) -> None:
    write(repository.root, minimum=10, missing="pass")
    told = command(repository, "contract", "diff", "v1", "--markdown").stdout
    assert told.splitlines()[0] == (
        "### fruit: breaks callers without a new major version (1.0 to 1.0)"
    )
    assert told.index("**breaks callers**: `features.size.minimum`") < told.index("- harmless")


@pytest.mark.parametrize("place", ["", "models", "models/fruit", "models/fruit/contract.yaml"])
def test_a_repository_a_folder_and_a_file_are_read(repository: Repository, place: str) -> None:
    told = command(repository, "contract", "diff", str(repository.root / place))
    assert told.returncode == 0, told.stderr
    assert "the same" in told.stdout


@pytest.mark.parametrize(
    ("place", "words"), [("v9", "no commit, branch or tag"), ("service.yaml", "")]
)
def test_what_holds_no_contract_is_named(repository: Repository, place: str, words: str) -> None:
    named = str(repository.root / place) if words == "" else place
    told = command(repository, "contract", "diff", named)
    assert told.returncode == 2
    assert words in told.stderr
    assert place in told.stderr.replace("\n", "")


def test_a_service_below_the_root_of_git_is_compared_as_well(tmp_path: Path) -> None:
    root = tmp_path / "company/services/acme"
    write(root)
    (root / "service.yaml").write_text("name: acme\n", encoding="utf-8")
    commit_all(tmp_path / "company")
    write(root, minimum=10)
    assert command(Repository(root), "contract", "diff", "HEAD").returncode == 1
