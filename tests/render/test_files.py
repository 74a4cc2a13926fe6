"""What is rendered is complete, clean, owned by somebody, and the same every time."""

from __future__ import annotations

import configparser
import datetime as dt
import re
import stat
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pathspec import PathSpec

from model_service.repository import Repository
from model_service.settings import Settings, read_settings
from tests.render.combinations import ALL_ON, OPTIONS, RENDERS, pairs_of, pairwise
from tests.rendering import ROOT, TOOLS, tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_copie.plugin import Copie

    from tests.rendering import Template

    Render = Callable[..., Path]

NASTY = "Ann \"Q\" O'Neil's — 🐧 #1: {x} {{ y }} %s \\n & <b>"
TEXT_ANSWERS = {"project_title": NASTY, "team_name": NASTY, "description": NASTY}
EXAMPLES = ("models/penguin_", "data/")


def name_of(answers: dict[str, Any]) -> str:
    return "-".join(str(answer) for answer in answers.values()) or "defaults"


@pytest.fixture(scope="module", params=RENDERS, ids=name_of)
def rendered(
    request: pytest.FixtureRequest, template: Template, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """One of the renders that together try every pair of options."""
    folder = tmp_path_factory.mktemp("render") / "service"
    return request.param, template.render(folder, **request.param)


def ownership(service: Path) -> dict[str, list[str]]:
    text = (service / "config/ownership.yaml").read_text(encoding="utf-8")
    lists: dict[str, list[str]] = yaml.safe_load(text)
    return lists


def test_the_renders_try_every_pair_of_options() -> None:
    assert {option: set(values) for option, values in OPTIONS.items()} == {
        option: {answers[option] for answers in pairwise(OPTIONS)} for option in OPTIONS
    }
    tried = set().union(*(pairs_of(answers) for answers in pairwise(OPTIONS)))
    first, second = ("ci", "none"), ("minimum_python", "3.13")
    assert (first, second) in tried
    assert len(pairwise(OPTIONS)) < 14


def test_defaults_render_without_trust_and_without_a_word(copie: Copie) -> None:
    result = copie.copy()
    assert result.exit_code == 0, result.exception
    assert result.project_dir is not None
    assert (result.project_dir / "service.yaml").is_file()


def test_a_second_render_is_the_same_to_the_byte(
    template: Template, default_service: Path, tmp_path: Path
) -> None:
    again = template.render(tmp_path / "acme-models")
    assert len(tree(again)) > 20
    assert tree(again) == tree(default_service)


def test_nothing_of_the_template_is_left_over(rendered: tuple[dict[str, Any], Path]) -> None:
    _, service = rendered
    for name, content in tree(service).items():
        assert not name.endswith(".jinja")
        assert not set("{}%") & set(name), name
        if b"\0" in content or name.startswith(("src/", "tests/", "monitoring/")):
            continue
        if name.endswith("/alert-rules.yaml"):  # the same as monitoring/rules
            continue
        text = content.decode()
        assert not re.search(r"(?<!\$)\{\{|\{%|%\}|\{#", text), name
        assert "Undefined" not in text, name


def test_text_files_end_in_one_newline_and_have_no_trailing_spaces(
    rendered: tuple[dict[str, Any], Path],
) -> None:
    _, service = rendered
    for name, content in tree(service).items():
        if b"\0" in content or not content:
            continue
        text = content.decode()
        assert text.endswith("\n"), name
        assert not text.endswith("\n\n"), name
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), name
        assert "\r" not in text, name


def test_options_decide_which_files_exist(rendered: tuple[dict[str, Any], Path]) -> None:
    answers, service = rendered
    names = set(tree(service))
    with_examples = answers.get("example_models", True)
    assert any(name.startswith("data/") for name in names) == with_examples
    assert ("renovate.json" in names) == (answers["ci"] != "none")
    assert (".github/workflows/ci.yml" in names) == (answers["ci"] == "github")
    assert (".gitlab-ci.yml" in names) == (answers["ci"] == "gitlab")
    for target in ALL_ON["deployment"]:
        shipped = any(name.startswith(f"deploy/{target}/") for name in names)
        assert shipped == (target in answers["deployment"]), target
    assert {"CODEOWNERS", "models/README.md", ".copier-answers.yml", "deploy/Dockerfile"} <= names


def test_every_file_has_exactly_one_owner(rendered: tuple[dict[str, Any], Path]) -> None:
    _, service = rendered
    lists = ownership(service)
    assert sorted(lists) == ["_shared", "_skip_if_exists", "_template_owned"]
    for name in tree(service):
        owners = [
            owner
            for owner, patterns in lists.items()
            if PathSpec.from_lines("gitignore", patterns).match_file(name)
        ]
        assert len(owners) == 1, f"{name} is owned by {owners}"


def test_every_line_of_the_ownership_file_owns_something(
    template: Template, tmp_path: Path
) -> None:
    names = [
        name
        for ci in OPTIONS["ci"]
        for name in tree(template.render(tmp_path / ci, ci=ci, deployment=ALL_ON["deployment"]))
    ]
    lists = ownership(tmp_path / "github")
    for pattern in [pattern for patterns in lists.values() for pattern in patterns]:
        assert list(PathSpec.from_lines("gitignore", [pattern]).match_files(names)), pattern


def test_shared_files_have_a_seam_below_which_the_team_adds(default_service: Path) -> None:
    shared = ownership(default_service)["_shared"]
    assert shared
    for pattern in shared:
        text = (default_service / pattern.lstrip("/")).read_text(encoding="utf-8")
        assert re.search(r"# --- your team's .* below this line", text), pattern


def test_the_readme_shows_who_owns_what(rendered: tuple[dict[str, Any], Path]) -> None:
    _, service = rendered
    readme = (service / "README.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:3] for row in readme.splitlines() if row.startswith("| `")]
    shown = {
        owner.strip(): {f"/{path}" for path in re.findall(r"`([^`]+)`", paths)}
        for paths, owner in rows
    }
    existing = {f"/{name}" for name in tree(service)}
    for key, owner in [
        ("_skip_if_exists", "your team"),
        ("_shared", "shared"),
        ("_template_owned", "the template"),
    ]:
        declared = {
            pattern
            for pattern in ownership(service)[key]
            if any(name.startswith(pattern) for name in existing)
        }
        assert declared <= shown[owner]
        assert shown[owner] <= set(ownership(service)[key])


@pytest.mark.parametrize("ci", OPTIONS["ci"])
def test_titles_with_quotes_and_emoji_arrive_whole_in_every_file(render: Render, ci: str) -> None:
    service = render(ci=ci, **TEXT_ANSWERS)
    settings = yaml.safe_load((service / "service.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (settings["title"], settings["description"], settings["team"]) == (NASTY,) * 3
    assert project["description"] == NASTY
    assert project["name"] == settings["name"]
    for name, content in tree(service).items():
        if name.endswith((".yaml", ".yml")):
            list(yaml.safe_load_all(content))
        elif name.endswith(".toml"):
            tomllib.loads(content.decode())


def test_settings_hold_the_answers(render: Render) -> None:
    service = render(launch_date="2028-02-29", owner_1="@acme/ds", owner_2="ada@acme.example")
    settings = yaml.safe_load((service / "service.yaml").read_text(encoding="utf-8"))
    assert settings["launch_date"] == "2028-02-29"
    assert settings["owners"] == ["@acme/ds", "ada@acme.example"]
    understood = read_settings(Repository(service), {})
    assert understood.launch_date == dt.date(2028, 2, 29)
    assert understood.owners == ("@acme/ds", "ada@acme.example")
    assert "* @acme/ds ada@acme.example" in (service / "CODEOWNERS").read_text(encoding="utf-8")


def test_settings_state_what_the_platform_has_and_its_defaults(default_service: Path) -> None:
    stated = yaml.safe_load((default_service / "service.yaml").read_text(encoding="utf-8"))
    understood = read_settings(Repository(default_service), {})
    assert set(stated) == set(Settings.__struct_fields__)
    assert understood.launch_date is None
    plain = Settings(name=understood.name)
    for section in ("server", "limits", "promotion", "stores", "api_keys"):
        assert getattr(understood, section) == getattr(plain, section), section


def test_the_command_is_named_after_the_service(render: Render) -> None:
    service = render(service_name="churn-house")
    project = tomllib.loads((service / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"churn-house": "model_service.cli.main:main"}
    assert ".venv/bin/churn-house" in (service / "Makefile").read_text(encoding="utf-8")


def test_pyproject_has_fewer_than_six_jinja_blocks() -> None:
    text = (ROOT / "template/pyproject.toml.jinja").read_text(encoding="utf-8")
    assert 0 < len(re.findall(r"\{\{|\{%", text)) < 6


def test_python_is_never_templated() -> None:
    assert not list((ROOT / "template").rglob("*.py.jinja"))
    assert not [path for path in (ROOT / "template").rglob("*.py") if "{" in path.name]


def test_constraints_are_exact_versions_and_cover_the_dependencies(default_service: Path) -> None:
    lines = (default_service / "config/constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"[a-z0-9-]+==[\w.]+( ; .+)?$", line) for line in lines)
    pinned = {line.split("==")[0] for line in lines}
    project = tomllib.loads((default_service / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["train"],
        *project["dependency-groups"]["dev"],
    ]
    assert {re.split(r"[\[<>=;]", requirement)[0] for requirement in needed} <= pinned


def test_the_tests_of_the_template_use_the_versions_that_services_get() -> None:
    ours = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    theirs = (ROOT / "template/config/constraints.txt").read_text(encoding="utf-8").splitlines()
    assert theirs
    assert not set(theirs) - set(ours)


def test_what_the_image_installs_is_locked_at_the_versions_of_the_constraints(
    default_service: Path,
) -> None:
    constraints = (default_service / "config/constraints.txt").read_text(encoding="utf-8")
    for name in ("requirements.txt", "requirements-monitor.txt", "requirements-train.txt"):
        text = (default_service / "deploy" / name).read_text(encoding="utf-8")
        pins = re.findall(
            r"^([a-z0-9-]+==\S+(?: ; .*?)?) \\\n    --hash=sha256:", text, re.MULTILINE
        )
        assert len(pins) > 20
        assert len(pins) == len(re.findall(r"^\w", text, re.MULTILINE)), "a pin without a digest"
        known = {line.split(" ;")[0] for line in constraints.splitlines()}
        assert {pin.split(" ;")[0] for pin in pins} <= known, "run `make locks`"
        assert "://" not in text
    checked = subprocess.run(
        [sys.executable, default_service / "deploy/lock.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, f"run `make locks`: {checked.stderr}"


def test_no_file_names_a_machine(rendered: tuple[dict[str, Any], Path]) -> None:
    _, service = rendered
    for name, content in tree(service).items():
        if name == ".copier-answers.yml":  # says where the template is, which here is a folder
            continue
        found = re.findall(
            rb"(?:/home|/root|/Users|/work|/tmp)/[\w.-]+|--(?:extra-)?index-url", content
        )
        assert not found, f"{name} holds {found}"


def test_no_advice_puts_a_copy_of_the_engine_beside_the_libraries(default_service: Path) -> None:
    """`pip install '.[extra]'` would: no edit of src/ and no update reaches such a copy."""
    advice = [
        line
        for name, content in tree(default_service).items()
        if name.endswith((".py", ".md", "Makefile", ".yml"))
        for line in re.findall(r".*'?\.\[\{?[a-z]+\}?\]'?.*", content.decode())
        if "install" in line or "--editable" in line
    ]
    assert len(advice) >= 5
    for line in advice:
        assert re.search(r"(-e|--editable) '\.\[", line), line


def test_a_service_stays_within_its_size(default_service: Path) -> None:
    """A team inherits every line: what these limits are and why is decision 4."""
    files = tree(default_service)
    assert len(files) <= 340
    platform = [text for name, text in files.items() if re.match(r"src/.*\.py$", name)]
    assert sum(text.count(b"\n") for text in platform) <= 30_500


def test_no_file_is_executable_by_accident(default_service: Path) -> None:
    for path in default_service.rglob("*"):
        if path.is_file():
            assert not path.stat().st_mode & stat.S_IXUSR, path


def test_caches_and_trained_versions_of_a_working_copy_are_not_rendered(
    template: Template, tmp_path: Path
) -> None:
    dirty = type(template).of_the_working_tree(tmp_path / "template")
    (dirty.folder / "template/.gitignore").unlink()  # which would keep them out of the commit
    for name in ["registry/m/1/manifest.json", "src/__pycache__/m.pyc", ".venv/bin/python"]:
        path = dirty.folder / "template" / name
        path.parent.mkdir(parents=True)
        path.write_text("left over", encoding="utf-8")
    dirty.tag("v9999.0.1")
    names = tree(dirty.render(tmp_path / "service"))
    assert "Makefile" in names
    assert not [name for name in names if re.search("^registry/|__pycache__|.venv", name)]


@pytest.mark.parametrize("examples", [True, False])
def test_a_message_after_copying_gives_the_next_commands(
    template: Template, tmp_path: Path, examples: bool
) -> None:
    service = tmp_path / "service"
    ran = subprocess.run(
        [
            TOOLS / "copier",
            "copy",
            "--defaults",
            "-d",
            f"example_models={examples}",
            template.folder,
            service,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    first_model = "make serve" if examples else "acme-models new churn"
    for line in ["Acme Models is ready", f"cd {service}", "make setup", first_model]:
        assert line in ran.stderr
    assert "--trust" not in ran.stderr


def test_every_make_target_says_what_it_does(default_service: Path) -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=default_service,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    makefile = (default_service / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    for target in phony[1].split():
        assert f"make {target} " in shown, target


def test_configuration_files_are_read_by_their_formats(default_service: Path) -> None:
    for name in ["config/mypy.ini", "config/pytest.ini"]:
        parser = configparser.ConfigParser(interpolation=None)
        assert parser.read(default_service / name)
