"""The pipelines of the generated repository are valid, safe, and run every check."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.rendering import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rendering import Template

    Render = Callable[..., Path]

CHECKED = ["make setup", "make check", "make train", "make test", "make verify"]


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (TOOLS / tool, *arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def load(path: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def assert_valid(schema: str, *files: object) -> None:
    assert files
    checked = run("check-jsonschema", "--builtin-schema", schema, *files)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def github(render: Render) -> Path:
    return render(ci="github")


@pytest.fixture
def gitlab(render: Render) -> Path:
    return render(ci="gitlab")


def test_github_accepts_the_workflows(github: Path) -> None:
    assert_valid("vendor.github-workflows", *(github / ".github/workflows").glob("*.yml"))


def test_zizmor_finds_nothing_in_the_workflows(github: Path) -> None:
    audited = run("zizmor", "--offline", "--no-progress", github)
    assert audited.returncode == 0, audited.stdout


def test_zizmor_would_find_a_dangerous_workflow(github: Path) -> None:
    workflow = github / ".github/workflows/_check.yml"
    text = workflow.read_text(encoding="utf-8")
    workflow.write_text(re.sub(r"@[0-9a-f]{40}.*", "@main", text), encoding="utf-8")
    assert run("zizmor", "--offline", "--no-progress", github).returncode != 0


def test_github_workflows_may_only_read(github: Path) -> None:
    for path in (github / ".github/workflows").glob("*.yml"):
        workflow = load(path)
        assert workflow["permissions"] == {}, path
        for job in workflow["jobs"].values():
            assert job["permissions"] == {"contents": "read"}, path


def test_actions_are_pinned_with_their_version_beside_them(github: Path) -> None:
    uses = [
        line.split("uses: ")[1]
        for path in (github / ".github/workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses: " in line
    ]
    assert len(uses) == 6
    for action in uses:
        assert re.match(r"\./|[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", action), action


def test_github_runs_every_check(github: Path) -> None:
    commands = [
        step["run"]
        for part in ["_check.yml", "_test.yml"]
        for job in load(github / ".github/workflows" / part)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert set(commands) == set(CHECKED)


def test_gitlab_accepts_the_pipeline(gitlab: Path) -> None:
    files = [gitlab / ".gitlab-ci.yml", *(gitlab / ".gitlab").glob("*.yml")]
    assert_valid("vendor.gitlab-ci", "--data-transform", "gitlab-ci", *files)


def test_gitlab_runs_every_check(gitlab: Path) -> None:
    entry = load(gitlab / ".gitlab-ci.yml")
    parts: dict[str, Any] = {}
    for include in entry["include"]:
        parts |= load(gitlab / include["local"])
    commands = [
        command
        for job in entry.values()
        if isinstance(job, dict) and "extends" in job
        for command in parts[job["extends"]]["script"]
    ]
    assert set(commands) == set(CHECKED)


@pytest.mark.parametrize(
    ("minimum", "tested"),
    [("3.11", ["3.11", "3.12", "3.13"]), ("3.12", ["3.12", "3.13"]), ("3.13", ["3.13"])],
)
def test_every_python_from_the_oldest_on_is_tested(
    render: Render, minimum: str, tested: list[str]
) -> None:
    service = render(ci="github", minimum_python=minimum)
    jobs = load(service / ".github/workflows/ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == tested
    assert jobs["check"]["with"]["python"] == minimum


@pytest.mark.parametrize("minimum", ["3.11", "3.12", "3.13"])
def test_gitlab_tests_the_same_pythons_as_github(
    template: Template, tmp_path: Path, minimum: str
) -> None:
    github = template.render(tmp_path / "github", ci="github", minimum_python=minimum)
    gitlab = template.render(tmp_path / "gitlab", ci="gitlab", minimum_python=minimum)
    matrix = load(gitlab / ".gitlab-ci.yml")["test"]["parallel"]["matrix"]
    jobs = load(github / ".github/workflows/ci.yml")["jobs"]
    assert matrix == [{"PYTHON_VERSION": jobs["test"]["strategy"]["matrix"]["python"]}]


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_renovate_accepts_its_configuration(render: Render, ci: str) -> None:
    assert_valid("vendor.renovate", render(ci=ci) / "renovate.json")


def test_hooks_before_a_commit_use_the_tools_of_the_repository(github: Path) -> None:
    for repository in load(github / ".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            assert hook["entry"].startswith((".venv/bin/", "make "))
