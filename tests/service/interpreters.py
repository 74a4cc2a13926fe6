"""The Pythons of this machine that a service can be run on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def interpreter(version: str) -> str | None:
    """The path of a Python `version` ("3.12") that runs and can make environments, or None.

    Looks beside this one, on the PATH, and where pyenv keeps the versions that are not switched on.
    """
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = shutil.which(f"python{version}")
    kept = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
    for candidate in [*([found] if found else []), *map(str, kept)]:
        if _can_make_environments(candidate, version):
            return candidate
    return None


def _can_make_environments(candidate: str, version: str) -> bool:
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    ran = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
    return ran.returncode == 0 and ran.stdout.strip() == version
