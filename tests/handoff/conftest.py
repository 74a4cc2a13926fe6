"""What the tests of the handoff share: a service that is ready for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.handoff import handed_over as service
from tests.rendering import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rendering import Template


@pytest.fixture(scope="session")
def handed_over(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service of which every item holds that can be proven here. Shared: copy it."""
    return service.hand_over(template, tmp_path_factory.mktemp("handed-over") / "acme-models")


@pytest.fixture(autouse=True)
def with_the_platform_of_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that are started run the code of the working tree."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "template/src"))
