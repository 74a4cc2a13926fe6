"""The service's own commands `update` and `doctor`, in a repository that a team works in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from model_service.cli.ownership import ANSWERS
from tests.rendering import Template, commit_all, git, tree
from tests.update.older_versions import GONE_SINCE, OLDER, template_with_history

if TYPE_CHECKING:
    from pathlib import Path

RUN = "from model_service.cli.main import main; main()"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return template_with_history(tmp_path_factory.mktemp("history"), OLDER)


@pytest.fixture
def service(history: Template, tmp_path: Path) -> Path:
    """A service of the older version, committed."""
    rendered = history.render(tmp_path / "acme-models", version=OLDER)
    commit_all(rendered, "Start the service")
    return rendered


def command(service: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command that the service installs, with the code that the service holds."""
    return subprocess.run(
        [sys.executable, "-c", RUN, "--repository", str(service), *arguments],
        cwd=service,
        env={**os.environ, "PYTHONPATH": str(service / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def findings(service: Path, *arguments: str) -> dict[str, tuple[bool | None, str]]:
    """What `doctor` says, by its subject."""
    ran = command(service, "doctor", "--json", *arguments)
    assert ran.returncode in {0, 1}, ran.stderr
    found = json.loads(ran.stdout)["findings"]
    return {one["subject"]: (one["good"], one["text"]) for one in found}


def test_update_brings_the_newer_template_and_says_what_to_do_next(service: Path) -> None:
    assert (service / GONE_SINCE).exists()
    ran = command(service, "update")
    assert ran.returncode == 0, ran.stderr
    assert "files changed" in ran.stdout
    assert "make setup check test" in ran.stdout
    assert not (service / GONE_SINCE).exists()
    assert "_commit: v9999.0.0" in (service / ".copier-answers.yml").read_text(encoding="utf-8")


def test_update_refuses_a_dirty_tree_and_changes_nothing(service: Path) -> None:
    (service / "notes.txt").write_text("mine\n", encoding="utf-8")
    before = tree(service)
    ran = command(service, "update")
    assert ran.returncode == 2
    assert "not committed" in ran.stderr
    assert "notes.txt" in ran.stderr
    assert tree(service) == before


def test_update_lists_the_files_with_conflicts(service: Path) -> None:
    replace_in(service / "Makefile", "## Install the tools", "## Ours")
    commit_all(service)
    ran = command(service, "update")
    assert ran.returncode == 1
    assert "the same lines" in ran.stderr
    assert "Makefile" in ran.stderr
    assert "<<<<<<<" in (service / "Makefile").read_text(encoding="utf-8")


def test_update_refuses_a_repository_without_git(history: Template, tmp_path: Path) -> None:
    service = history.render(tmp_path / "acme-models", version=OLDER)
    ran = command(service, "update")
    assert ran.returncode == 2
    assert "git init" in ran.stderr


def test_update_deletes_no_edited_file_unless_it_is_told_to(service: Path) -> None:
    workflow = service / ".github/workflows/ci.yml"
    workflow.write_text(
        workflow.read_text(encoding="utf-8") + "# what we added\n", encoding="utf-8"
    )
    commit_all(service)
    before = tree(service)
    ran = command(service, "update", "--data", "ci=gitlab")
    assert ran.returncode == 1
    assert "you have edited" in ran.stderr
    assert ".github/workflows/ci.yml" in ran.stderr
    assert tree(service) == before

    told = command(service, "update", "--data", "ci=gitlab", "--accept-deletions")
    assert told.returncode == 0, told.stderr
    assert not workflow.exists()
    assert (service / ".gitlab-ci.yml").is_file()


def test_update_deletes_what_nobody_edited_without_a_question(service: Path) -> None:
    ran = command(service, "update", "--data", "ci=gitlab")
    assert ran.returncode == 0, ran.stderr
    assert not (service / ".github/workflows").exists()


def test_update_to_a_version_that_does_not_exist_says_so(service: Path) -> None:
    before = tree(service)
    ran = command(service, "update", "--to", "v77.0.0")
    assert ran.returncode == 2
    assert "could not update" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert tree(service) == before


def test_who_moved_the_template_is_told_where_to_say_so(history: Template, tmp_path: Path) -> None:
    there, moved = Template(tmp_path / "template"), tmp_path / "moved"
    git(tmp_path, "clone", "--quiet", str(history.folder), str(there.folder))
    service = there.render(tmp_path / "acme-models", version=OLDER)
    commit_all(service)
    recorded = (service / ANSWERS).read_text(encoding="utf-8")
    named = [line for line in recorded.splitlines() if str(tmp_path) in line]
    assert named == [f"_src_path: {there.folder}"]
    others = {name for name, text in tree(service).items() if str(tmp_path).encode() in text}
    assert others == {ANSWERS}

    there.folder.rename(moved)
    ran = command(service, "update")
    assert ran.returncode == 2
    assert f"looked for at {there.folder}. If it is elsewhere now" in ran.stderr
    assert "_src_path" in findings(service, "--online")["template"][1]
    replace_in(service / "Makefile", "## Install the tools", "## Ours")
    commit_all(service)
    replace_in(service / ANSWERS, str(there.folder), str(moved))
    commit_all(service)
    assert "Makefile" in findings(service)["template"][1]  # edited before the address was
    (service / "Makefile").write_text(git(service, "show", "HEAD~2:Makefile"), encoding="utf-8")
    commit_all(service)
    assert command(service, "update").returncode == 0
    assert f"_src_path: {moved}" in (service / ANSWERS).read_text(encoding="utf-8")


def test_doctor_names_the_templates_files_that_were_edited(service: Path) -> None:
    assert findings(service)["template"] == (True, "no file of the template was edited")
    replace_in(service / "src/model_service/files.py", '"""An older way: ', '"""Our way: ')
    replace_in(service / "README.md", "# ", "# Our ")
    good, text = findings(service)["template"]
    assert good is None
    assert "src/model_service/files.py" in text
    assert "README.md" not in text


def test_doctor_tells_of_a_newer_template_when_it_may_ask(service: Path) -> None:
    assert "newer" not in findings(service)["template"][1]
    assert "there is a newer version" in findings(service, "--online")["template"][1]


def test_doctor_says_what_each_model_needs(service: Path) -> None:
    contract = service / "models/penguin_mass/contract.yaml"
    replace_in(contract, "type: number", "type: nunber")
    git(service, "add", "--all")
    found = findings(service)
    assert found["penguin_mass"][0] is False
    assert "contract check penguin_mass" in found["penguin_mass"][1]
    assert found["penguin_species"][0] is None
    assert "train penguin_species" in found["penguin_species"][1]
    contract.unlink()
    replace_in(service / "traffic.yaml", "models: {}", "models: {penguin_mass: {champion: '1'}}")
    assert "take it out of traffic.yaml" in findings(service)["penguin_mass"][1]
