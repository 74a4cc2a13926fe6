"""Each command of the page for DevOps is run by a test, or needs what no machine of ours has."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from tests.debian import program

if TYPE_CHECKING:
    from pathlib import Path

RUN_BY_OTHERS = {
    "make image",  # test_image.py
    "make sbom",  # test_lock.py
    "make scan",
    "make lock",
}
SAME_WITH_OPTIONS = ("make image DOCKER=", "make image REQUIREMENTS=")


def test_the_commands_of_the_page_work(service: Path) -> None:
    page = (service / "docs/deploy.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    commands = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    assert len(commands) >= 8
    assert set(commands) >= RUN_BY_OTHERS
    for command in sorted(set(commands) - RUN_BY_OTHERS):
        if command.startswith(SAME_WITH_OPTIONS):
            continue
        words = command.split()
        assert words[:2] == ["kubectl", "kustomize"], command
        subprocess.run([program("kubectl"), *words[1:]], cwd=service, check=True)


def test_the_page_names_files_settings_and_components_that_exist(service: Path) -> None:
    page = (service / "docs/deploy.md").read_text(encoding="utf-8")
    files = set(re.findall(r"\b(?:deploy|monitoring|registry)/[\w./-]*\w", page))
    assert len(files) > 6
    for name in files:
        assert (service / name).exists() or name.startswith("registry"), name
    kubernetes_part = page.partition("## Kubernetes")[2].partition("\n## ")[0]
    components = re.findall(r"^\| `([a-z-]+)` \|", kubernetes_part, re.MULTILINE)
    kubernetes = service / "deploy/kubernetes/components"
    assert set(components) == {path.name for path in kubernetes.iterdir()}
