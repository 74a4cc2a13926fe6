"""The pages for backend, DevOps and product: whole, true, fresh, and readable without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
import yaml

from model_service.handoff.pack.product import IN_WORDS
from model_service.repository import Repository
from model_service.serving.problems import PROBLEMS
from model_service.settings import setting_names, variable_of
from model_service.training.gate import CLASS_METRICS, NUMBER_METRICS
from tests.platform.commands.command import command
from tests.platform.handoff.stub_process import copy_of

if TYPE_CHECKING:
    from pathlib import Path

AUDIENCES = ["backend", "devops", "product"]


@pytest.fixture(scope="module")
def packed(default_service: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository(
        copy_of(default_service, tmp_path_factory.mktemp("pack") / "acme-models")
    )
    ran = command(repository, "handoff", "pack")
    assert ran.returncode == 0, ran.stderr
    return repository


@pytest.fixture
def changed(packed: Repository, tmp_path: Path) -> Repository:
    return Repository(copy_of(packed.root, tmp_path / "acme-models"))


def page(repository: Repository, audience: str) -> str:
    return (repository.root / f"handoff/pages/{audience}.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Collects what a page refers to, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.anchors: set[str] = set()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "action", "srcset"):
                self.references.append(value or "")
            if name == "id":
                self.anchors.add(value or "")


@pytest.mark.parametrize("audience", AUDIENCES)
def test_a_page_loads_nothing_and_its_links_lead_somewhere(
    packed: Repository, audience: str
) -> None:
    text = page(packed, audience)
    elements = Elements()
    elements.feed(text)
    assert "script" not in elements.names
    assert "@import" not in text
    assert "url(" not in text
    links = [link for link in elements.references if link != "data:,"]
    assert len(links) >= 4
    assert all(link.startswith("#") for link in links), links
    assert {link[1:] for link in links} == elements.anchors


def test_backend_finds_every_field_and_every_error(packed: Repository) -> None:
    text = page(packed, "backend")
    for slug in PROBLEMS:
        assert f"<code>{slug}</code>" in text
    for model in packed.model_names():
        assert f"<code>POST /v1/models/{model}/predict</code>" in text
        contract = yaml.safe_load(
            (packed.model_folder(model) / "contract.yaml").read_text(encoding="utf-8")
        )
        for feature in contract["features"]:
            assert f"<code>{feature}</code>" in text
    for title in ("Try it", "Send", "Get", "Process", "When it fails"):
        assert f"<h2>{title}</h2>" in text
    assert "Who decides which probability is enough is not stated yet" in text


def test_devops_finds_every_variable_and_every_alert(packed: Repository) -> None:
    text = page(packed, "devops")
    for name in setting_names():
        assert f"<code>{variable_of(name)}</code>" in text
    alerts = 0
    for path in (packed.root / "monitoring/rules").glob("*.yaml"):
        for name in re.findall(r"- alert: (\w+)", path.read_text(encoding="utf-8")):
            assert f"<code>{name}</code>" in text
            alerts += 1
    assert alerts > 20
    for words in ("/livez", "/readyz", ">8080<", ">9108<", "rollback NAME", "loadtest"):
        assert words in text
    assert "{{" not in text


def test_product_finds_the_words_of_the_card_and_what_is_open(packed: Repository) -> None:
    text = page(packed, "product")
    assert "Chicks, moulting birds, or islands outside the Palmer Archipelago" in text
    assert "The mean mass of a colony is off by a few grams" in text
    assert "No version answers yet" in text
    assert "penguin_species: which probability is enough to act" in text


def test_every_metric_that_is_measured_has_words() -> None:
    assert {*IN_WORDS} == {*CLASS_METRICS, *NUMBER_METRICS}


def test_names_of_people_and_models_cannot_become_markup(changed: Repository) -> None:
    text = changed.service_file.read_text(encoding="utf-8")
    text = text.replace('backend: ""', 'backend: "<b>x</b> & `co`"')
    changed.service_file.write_text(
        text.replace("title: ", 'title: "<script>alert(1)</script>" # '), encoding="utf-8"
    )
    assert command(changed, "handoff", "pack").returncode == 0
    assert command(changed, "handoff", "pack", "--check").returncode == 0
    for audience in AUDIENCES:
        assert "<script" not in page(changed, audience)
    assert "&lt;b&gt;x&lt;/b&gt; &amp; <code>co</code>" in page(changed, "backend")


@pytest.mark.parametrize(
    ("path", "before", "after", "named"),
    [
        ("models/penguin_mass/card.md", "sick", "ill", "product.html"),
        ("service.yaml", "port: 8080", "port: 8090", "devops.html"),
        ("models/penguin_species/contract.yaml", "maximum: 70", "maximum: 71", "backend.html"),
        ("handoff/pages/backend.html", "<h2>Send</h2>", "<h2>Post</h2>", "backend.html"),
    ],
)
def test_a_change_makes_the_pages_stale(
    changed: Repository, path: str, before: str, after: str, named: str
) -> None:
    text = (changed.root / path).read_text(encoding="utf-8")
    assert before in text
    (changed.root / path).write_text(text.replace(before, after, 1), encoding="utf-8")
    stale = command(changed, "handoff", "pack", "--check")
    assert stale.returncode == 1
    assert f"handoff/pages/{named} is not what would be written now" in stale.stdout


def test_numbers_of_a_version_that_is_not_here_are_not_made_up(changed: Repository) -> None:
    (changed.traffic).write_text('models: {penguin_mass: {champion: "3"}}\n', encoding="utf-8")
    ran = command(changed, "handoff", "pack", "--check")
    assert ran.returncode == 2
    assert "version 3 of penguin_mass" in ran.stderr
    assert "acme-models pull" in ran.stderr


@pytest.mark.parametrize("audience", AUDIENCES)
def test_a_browser_shows_a_page_without_a_complaint_and_prints_it(
    packed: Repository, tmp_path: Path, audience: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        problem = "the Debian package chromium is not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(problem)
    printed = tmp_path / "page.pdf"
    ran = subprocess.run(
        [
            *[chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"],
            *["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"],
            *["--no-pdf-header-footer", f"--print-to-pdf={printed}"],
            (packed.root / f"handoff/pages/{audience}.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "CONSOLE" not in ran.stderr, ran.stderr
    content = printed.read_bytes()
    assert content.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 1 < pages < 16
