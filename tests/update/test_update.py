"""An update brings what is the template's, and leaves what is the team's."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml
from pathspec import PathSpec

from tests.rendering import commit_all, git, tree
from tests.update.older_versions import (
    GONE_SINCE,
    NEWEST,
    OLDER,
    VERSIONS,
    released_versions,
    template_with_history,
)
from tests.update.team_work import EXPECTED_LINES, do_the_work_of_a_team

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rendering import Template


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """A version that services in the world may still be at."""
    return str(request.param)


@pytest.fixture(scope="module")
def history(version: str, tmp_path_factory: pytest.TempPathFactory) -> Template:
    try:
        return template_with_history(tmp_path_factory.mktemp("history"), version)
    except LookupError as absent:
        pytest.skip(str(absent))


@pytest.fixture
def service(history: Template, version: str, tmp_path: Path) -> Path:
    """A service of that version, committed."""
    tag = version if version.startswith("v") else f"v{version}"
    rendered = history.render(tmp_path / "acme-models", version=tag)
    commit_all(rendered, "Start the service")
    return rendered


def team_files(service: Path) -> dict[str, bytes]:
    """The files that the service's own list gives to the team."""
    lists = yaml.safe_load((service / "config/ownership.yaml").read_text(encoding="utf-8"))
    of_the_team = PathSpec.from_lines("gitignore", lists["_skip_if_exists"])
    return {name: text for name, text in tree(service).items() if of_the_team.match_file(name)}


def assert_kept(before: dict[str, bytes], service: Path) -> None:
    """Every file that the team had is as it was."""
    after = team_files(service)
    assert {name: after.get(name) for name in before} == before


def other_files(service: Path) -> dict[str, bytes]:
    """The rest, without the commit of the template that the answers hold."""
    of_the_team = team_files(service)
    files = {name: text for name, text in tree(service).items() if name not in of_the_team}
    answers = files[".copier-answers.yml"]
    files[".copier-answers.yml"] = re.sub(rb"(?m)^_commit: .*\n", b"", answers)
    return files


def test_an_untouched_service_becomes_what_a_fresh_render_is(
    history: Template, service: Path, tmp_path: Path
) -> None:
    before = team_files(service)
    assert history.update(service) == []
    fresh = history.render(tmp_path / "fresh", version=NEWEST)
    assert len(other_files(fresh)) > 15
    assert other_files(service) == other_files(fresh)
    assert_kept(before, service)
    # A newer version may bring files for the team to begin with, but none of a model that is there.
    new = {name for name in team_files(fresh) if not name.startswith(("models/", "data/"))}
    assert set(team_files(service)) == before.keys() | new


def test_an_edited_service_keeps_every_line_of_its_team(history: Template, service: Path) -> None:
    do_the_work_of_a_team(service)
    commit_all(service)
    before = team_files(service)
    assert history.update(service) == []
    assert_kept(before, service)
    for name, line in EXPECTED_LINES:
        assert line in (service / name).read_text(encoding="utf-8"), name
    assert not (service / "models/penguin_mass").exists()
    assert "<<<<<<<" not in b"".join(tree(service).values()).decode(errors="replace")


def test_an_edited_service_gets_the_newer_lines_around_its_own(
    history: Template, service: Path, tmp_path: Path
) -> None:
    do_the_work_of_a_team(service)
    commit_all(service)
    assert history.update(service) == []
    fresh = history.render(tmp_path / "fresh", version=NEWEST)
    for name, line in EXPECTED_LINES:
        if name in {"pyproject.toml", ".gitignore"}:
            ours = (service / name).read_text(encoding="utf-8").replace(f"{line}\n", "")
            (service / name).write_text(ours, encoding="utf-8")
    updated, newest = other_files(service), other_files(fresh)
    assert {name for name in newest if updated[name] != newest[name]} == set()


def test_the_example_models_are_not_brought_back(history: Template, service: Path) -> None:
    shutil.rmtree(service / "models/penguin_mass")
    shutil.rmtree(service / "models/penguin_species")
    shutil.rmtree(service / "data")
    commit_all(service)
    assert history.update(service) == []
    assert [path.name for path in (service / "models").iterdir()] == ["README.md"]
    assert not (service / "data").exists()


def test_an_answer_can_be_changed_while_updating(history: Template, service: Path) -> None:
    assert history.update(service, ci="gitlab") == []
    assert not (service / ".github/workflows").exists()
    assert (service / ".gitlab-ci.yml").is_file()
    assert (service / "models/penguin_mass/contract.yaml").is_file()


def test_an_edit_of_a_line_that_the_template_changed_is_a_conflict(tmp_path: Path) -> None:
    history = template_with_history(tmp_path / "template", OLDER)
    service = history.render(tmp_path / "service", version=OLDER)
    makefile = service / "Makefile"
    text = makefile.read_text(encoding="utf-8")
    makefile.write_text(text.replace("## Install the tools", "## Ours"), encoding="utf-8")
    commit_all(service)
    assert history.update(service) == ["Makefile"]


def test_a_file_that_the_template_dropped_is_removed(tmp_path: Path) -> None:
    history = template_with_history(tmp_path / "template", OLDER)
    service = history.render(tmp_path / "service", version=OLDER)
    commit_all(service)
    assert (service / GONE_SINCE).exists()
    assert history.update(service) == []
    assert not (service / GONE_SINCE).exists()


def test_the_older_version_differs_where_real_ones_do(tmp_path: Path) -> None:
    history = template_with_history(tmp_path / "template", OLDER)
    changed = git(history.folder, "diff", "--name-only", OLDER, NEWEST).splitlines()
    assert {"template/pyproject.toml.jinja", "template/.gitignore"} <= set(changed)
    assert len(changed) >= 8


def test_every_released_version_has_a_commit() -> None:
    for version, commit in released_versions().items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
