"""Programs of Debian packages that some tests run for real."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "kubectl": "kubernetes-client",
    "npm": "npm",
    "node": "nodejs",
}


def program(name: str) -> str:
    """Return the path of a program; without it the test is skipped, which CI does not accept."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is not installed: apt-get install {PACKAGES[name]}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found
