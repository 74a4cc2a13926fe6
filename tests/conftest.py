"""What all tests of the template share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.rendering import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the defaults that somebody set for Copier out of every render, and let processes keep
    what they compile: without that, each one that trains compiles its libraries for seconds."""
    settings = tmp_path_factory.mktemp("settings") / "copier.yml"
    settings.write_text("{}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COPIER_SETTINGS_PATH", str(settings))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The template as it stands, as the newest version of a repository of its own."""
    return Template.of_the_working_tree(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def default_service(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service rendered with every default. Shared: look at it, do not change it."""
    return template.render(tmp_path_factory.mktemp("rendered") / "acme-models")


@pytest.fixture
def render(template: Template, tmp_path: Path) -> Callable[..., Path]:
    """Render a service of one's own with these answers."""

    def rendered(**answers: Any) -> Path:
        return template.render(tmp_path / "service", **answers)

    return rendered
