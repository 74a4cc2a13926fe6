"""The pipelines of the generated repository are valid, safe, and run every check."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
import yaml

from tests.rendering import ROOT, TOOLS, commit_all, git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.rendering import Template

    Render = Callable[..., Path]

MAY_WRITE = {
    "nightly.yml digest": {"issues": "write"},
    "_review.yml comment": {"pull-requests": "write"},
    "_image.yml image": {"contents": "read", "packages": "write"},
    "_promote.yml promote": {"packages": "write"},
    "_template.yml template": {"contents": "write", "pull-requests": "write"},
}
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


def test_github_jobs_may_only_read_but_for_those_that_are_named_here(github: Path) -> None:
    found = {}
    for path in (github / ".github/workflows").glob("*.yml"):
        workflow = load(path)
        assert workflow["permissions"] == {}, path
        for name, job in workflow["jobs"].items():
            if job["permissions"] != {"contents": "read"} and "uses" not in job:
                found[f"{path.name} {name}"] = job["permissions"]
    assert found == MAY_WRITE


def test_a_job_that_writes_into_a_pull_request_runs_nothing_of_it(github: Path) -> None:
    comment = load(github / ".github/workflows/_review.yml")["jobs"]["comment"]
    assert [step for step in comment["steps"] if "uses" in step] == []


def test_actions_are_pinned_with_their_version_beside_them(github: Path) -> None:
    uses = [
        line.split("uses: ")[1]
        for path in (github / ".github/workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses: " in line
    ]
    assert len(uses) > 6
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
        if job["extends"] in (".check", ".test")
        for command in parts[job["extends"]]["script"]
    ]
    assert set(commands) == set(CHECKED)


def scripts_of(service: Path, ci: str) -> dict[str, str]:
    """Return the shell of every step, by the file and job that it stands in."""
    if ci == "github":
        return {
            f"{path.name} {name} {place}": step["run"]
            for path in (service / ".github/workflows").glob("*.yml")
            for name, job in load(path)["jobs"].items()
            for place, step in enumerate(job.get("steps", []))
            if "run" in step
        }
    return {
        f"{path.name} {name} {part}": "\n".join(job[part])
        for path in (service / ".gitlab").glob("*.yml")
        for name, job in load(path).items()
        for part in ("before_script", "script")
        if part in job
    }


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_pipelines_call_only_what_there_is(render: Render, ci: str) -> None:
    service = render(ci=ci)
    makefile = (service / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    shell = "\n".join(scripts_of(service, ci).values())
    called = set(re.findall(r"\bmake ([a-z-]+)", shell))
    assert {
        "image",
        "scan",
        "sbom",
        "verify-image",
        "compare",
        "nightly",
        "drill",
        "pull",
    } <= called
    assert called <= targets
    commands = set(re.findall(r"model_service ((?:contract |handoff )?[a-z]+)", shell))
    assert {"contract diff", "handoff check", "update", "verify"} <= commands
    for command in sorted(commands):
        helped = subprocess.run(
            [sys.executable, "-m", "model_service", *command.split(), "--help"],
            cwd=service,
            env={**os.environ, "PYTHONPATH": str(ROOT / "template/src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert helped.returncode == 0, f"{command}: {helped.stderr}"


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_every_step_is_shell_that_parses(render: Render, ci: str) -> None:
    scripts = scripts_of(render(ci=ci), ci)
    assert len(scripts) > 10
    for place, script in scripts.items():
        parsed = subprocess.run(
            ["bash", "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert parsed.returncode == 0, f"{place}: {parsed.stderr}"


def test_both_systems_do_the_same(template: Template, tmp_path: Path) -> None:
    called = []
    for ci in ("github", "gitlab"):
        shell = "\n".join(scripts_of(template.render(tmp_path / ci, ci=ci), ci).values())
        makes = set(re.findall(r"\bmake ([a-z-]+)", shell))
        called.append(makes | set(re.findall(r"model_service ([a-z]+ ?[a-z]*)", shell)))
    assert called[0] == called[1]


def test_a_release_is_promoted_only_after_the_handoff_and_by_somebody(github: Path) -> None:
    jobs = load(github / ".github/workflows/release.yml")["jobs"]
    assert set(jobs["promote"]["needs"]) == {"handoff", "image"}
    promote = load(github / ".github/workflows/_promote.yml")["jobs"]["promote"]
    assert promote["environment"] == "production"


def test_gitlab_promotes_by_hand_and_keeps_nightly_jobs_out_of_changes(gitlab: Path) -> None:
    jobs = load(gitlab / ".gitlab-ci.yml")
    assert jobs["promote"]["rules"][0]["when"] == "manual"
    assert set(jobs["promote"]["needs"]) == {"handoff", "container"}
    for name in (
        "conformance",
        "drift",
        "drill",
        "freshness",
        "vulnerabilities",
        "template",
        "digest",
        "tell-digest",
    ):
        assert jobs[name]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "schedule"'}]


def make(service: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run a target with the code of the working tree, without installing anything."""
    return subprocess.run(
        ["make", target, "INSTALLED=Makefile", f"SERVICE={sys.executable} -m model_service"],
        cwd=service,
        env={**os.environ, "PYTHONPATH": str(ROOT / "template/src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_fire_drill_of_the_night_raises_its_alarm(render: Render) -> None:
    held = make(render(ci="github"), "drill")
    assert held.returncode == 0, held.stdout + held.stderr
    assert re.search(r"✓ monitor: \d", held.stdout), held.stdout


def test_what_a_branch_changes_in_a_model_is_compared(render: Render) -> None:
    """The models that did not change are not trained."""
    service = render(ci="github")
    commit_all(service)
    git(service, "switch", "--quiet", "--create", "change")
    features = service / "models/penguin_mass/features.py"
    features.write_text(features.read_text(encoding="utf-8") + "\n# Changed.\n", encoding="utf-8")
    commit_all(service)
    compared = make(service, "compare")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "registry/penguin_mass/2" in compared.stdout
    assert "penguin_species" not in compared.stdout
    assert git(service, "status", "--porcelain") == ""


DIGEST = (
    ".venv/bin/python -m model_service handoff check --format md > build/handoff.md"
    " || test $? -ne 2"
)
TOKEN = {"REVIEW_TOKEN": "may comment"}
NOTED = """\
#!/bin/sh
# Notes what it was called with; the tracker has an issue once one was created.
echo "$@" >> "$NOTES"
case "$1 $2" in "issue list") grep -q "^issue create" "$NOTES" && echo 7; true ;; esac
"""


def bash(service: Path, script: str, **environ: object) -> subprocess.CompletedProcess[str]:
    """Run a step as the two systems do, with the code of the working tree."""
    programs = service.parent / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in (("gh", NOTED), ("date", "#!/bin/sh\necho 1\n")):  # a Monday
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    python = service / ".venv/bin/python"
    if not python.exists():
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
        python.chmod(0o755)
    platform = {"PYTHONPATH": str(ROOT / "template/src"), "NOTES": str(service.parent / "notes")}
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=service,
        env=os.environ | platform | path | {name: str(value) for name, value in environ.items()},
        capture_output=True,
        text=True,
        check=False,
    )


def breaking_change(service: Path) -> None:
    """Commit a change that breaks callers, on a branch of its own."""
    commit_all(service)
    git(service, "switch", "--quiet", "--create", "change")
    contract = service / "models/penguin_species/contract.yaml"
    text = contract.read_text(encoding="utf-8")
    changed = text.replace("on_missing: {impute: 44.5}", "on_missing: reject")
    assert changed != text
    contract.write_text(changed, encoding="utf-8")
    commit_all(service)


def step_of(workflow: Path, job: str, word: str) -> str:
    """The shell of the one step of a job that says a word."""
    steps = [step["run"] for step in load(workflow)["jobs"][job]["steps"] if "run" in step]
    (found,) = [step for step in steps if word in step]
    return str(found)


def outputs_of(service: Path, step: str, **environ: object) -> tuple[int, str]:
    """Run a step of GitHub's, and return its exit code and the text that it hands on."""
    output = service.parent / "output"
    ran = bash(service, step, GITHUB_OUTPUT=output, GITHUB_STEP_SUMMARY=os.devnull, **environ)
    handed_on = output.read_text(encoding="utf-8")
    head, _, rest = handed_on.partition("\n")
    text, _, end = rest.rpartition(f"\n{head.partition('<<')[2]}")
    assert end.strip() == "", handed_on
    assert ran.stderr == "", ran.stderr
    return ran.returncode, text


def notes_of(service: Path) -> str:
    return (service.parent / "notes").read_text(encoding="utf-8")


def test_what_breaks_callers_becomes_a_comment_on_github(render: Render) -> None:
    service = render(ci="github")
    breaking_change(service)
    review = service / ".github/workflows/_review.yml"
    code, comment = outputs_of(service, step_of(review, "contract", "diff"), BASE="main")
    assert (code, "bill_length_mm" in comment) == (1, True), comment
    step = step_of(review, "comment", "gh")
    commented = bash(service, step, NUMBER="12", COMMENT=comment)
    assert commented.returncode == 0, commented.stderr
    assert notes_of(service).startswith(f"pr comment 12 --body {comment} --edit-last")


def test_the_digest_of_the_night_is_told_on_github(render: Render) -> None:
    service = render(ci="github")
    settings = service / "service.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("level: B", "level: C"), encoding="utf-8")  # asks the least
    commit_all(service)
    workflows = service / ".github/workflows"
    step = step_of(workflows / "_handoff.yml", "handoff", DIGEST)
    code, digest = outputs_of(service, step)
    assert (code, "Backend: " in digest) == (0, True), digest
    step = step_of(workflows / "nightly.yml", "digest", "gh")
    for _ in range(2):
        told = bash(service, step, DIGEST=digest)
        assert told.returncode == 0, told.stderr
    created, changed = notes_of(service).split("issue list")[1:]
    assert f"--label handoff-digest --body {digest}" in created
    assert f"issue edit 7 --body {digest}" in changed
    assert f"issue comment 7 --body {digest}" in changed


@contextmanager
def tracker_of_gitlab() -> Iterator[tuple[str, list[tuple[str, str, dict[str, list[str]]]]]]:
    """Give the address of an API that keeps what it is sent, and has one issue once it got one."""
    kept: list[tuple[str, str, dict[str, list[str]]]] = []

    class Api(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            assert self.headers["PRIVATE-TOKEN"] == TOKEN["REVIEW_TOKEN"]
            if self.command != "GET":
                kept.append((self.command, self.path, parse_qs(body)))
            issues = json.dumps([{"iid": 7}] if kept else []).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(issues)))
            self.end_headers()
            self.wfile.write(issues)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", kept
        server.shutdown()


def gitlab_script(service: Path, part: str, job: str) -> str:
    """The shell of a job of GitLab's without its targets of make, which install and train."""
    lines = load(service / f".gitlab/{part}.yml")[job]["script"]
    return "\n".join(line for line in lines if "make " not in line)


def test_what_breaks_callers_becomes_a_comment_on_gitlab(render: Render) -> None:
    service = render(ci="gitlab")
    breaking_change(service)
    git(service, "update-ref", "refs/remotes/origin/main", "main")
    diff = gitlab_script(service, "review", ".contract")
    assert bash(service, diff, CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main").returncode == 1
    with tracker_of_gitlab() as (address, kept):
        variables = {"CI_API_V4_URL": address, "CI_PROJECT_ID": 3, "CI_MERGE_REQUEST_IID": 12}
        comment = gitlab_script(service, "review", ".comment")
        assert "skipped: " in bash(service, comment, **variables).stdout
        told = bash(service, comment, **variables, **TOKEN)
        assert told.returncode == 0, told.stderr
    ((_, path, sent),) = kept
    assert path == "/projects/3/merge_requests/12/notes"
    assert "bill_length_mm" in sent["body"][0]


def test_the_digest_of_the_night_is_told_on_gitlab(render: Render) -> None:
    service = render(ci="gitlab")
    commit_all(service)
    assert DIGEST in load(service / ".gitlab/nightly.yml")[".digest"]["script"]
    (service / "build").mkdir()
    (service / "build/handoff.md").write_text("Backend: 3 to do", encoding="utf-8")
    with tracker_of_gitlab() as (address, kept):
        variables = {"CI_API_V4_URL": address, "CI_PROJECT_ID": 3}
        tell = gitlab_script(service, "nightly", ".tell-digest")
        assert "skipped: " in bash(service, tell, **variables).stdout
        for _ in range(2):
            told = bash(service, tell, **variables, **TOKEN)
            assert told.returncode == 0, told.stderr
    assert [(verb, path) for verb, path, _ in kept] == [
        ("POST", "/projects/3/issues"),
        ("PUT", "/projects/3/issues/7"),
        ("POST", "/projects/3/issues/7/notes"),
    ]
    assert kept[0][2]["description"] == kept[1][2]["description"] == kept[2][2]["body"]
    assert kept[0][2]["description"] == ["Backend: 3 to do"]


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


@pytest.mark.parametrize("tracker", ["github", "gitlab", "jira", "linear"])
def test_forms_for_issues_exist_where_the_tracker_reads_them(render: Render, tracker: str) -> None:
    service = render(tracker=tracker, ci="none")
    forms = sorted(service.glob(".github/ISSUE_TEMPLATE/*.yml"))
    assert len(forms) == (3 if tracker == "github" else 0)
    if forms:
        config = forms.pop(0)
        assert_valid("vendor.github-issue-config", config)
        assert_valid("vendor.github-issue-forms", *forms)
    assert len([*service.glob(".gitlab/issue_templates/*.md")]) == (2 if tracker == "gitlab" else 0)
