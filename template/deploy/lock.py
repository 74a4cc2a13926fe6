"""Locks what the image installs: exact versions with the digests of their files.

    make lock                          after a change of the dependencies in pyproject.toml
    python deploy/lock.py --check      is every dependency locked? Asks nobody.

The template owns the lines above the seam of each file; what your team's dependencies added stands
below it. Both hold for every Python from the oldest on, and name no package index.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SEAM = "# --- your team's packages go below this line: `make lock` writes them ---\n"
SERVING = ("postgresql", "remote", "tracing")
"""The extras of pyproject.toml that every image has."""
LOCKS = {
    "requirements.txt": SERVING,
    "requirements-monitor.txt": (*SERVING, "monitor"),
    "requirements-train.txt": (*SERVING, "monitor", "train"),
}


def packages_of(text: str) -> dict[str, str]:
    """Return the lines of each locked package by what they pin, such as `numpy==2.4.6 ; …`."""
    blocks = re.findall(r"^[A-Za-z0-9].*\n(?:[ \t]+.*\n)*", text, re.MULTILINE)
    return {block.splitlines()[0].rstrip(" \\"): block for block in blocks}


def name_of(requirement: str) -> str:
    """Return the name of a package as every index knows it."""
    return canonicalize_name(Requirement(requirement).name)


def resolve(project: dict[str, Any], extras: tuple[str, ...], template_part: str) -> str:
    """Let `uv` find the packages that these extras need, at the versions of the constraints."""
    known = project.get("optional-dependencies", {})
    chosen = [word for extra in extras if extra in known for word in ("--extra", extra)]
    oldest = project["requires-python"].removeprefix(">=")
    with tempfile.TemporaryDirectory() as folder:
        pinned, output = Path(folder, "pinned.txt"), Path(folder, "locked.txt")
        pinned.write_text("".join(f"{pin}\n" for pin in packages_of(template_part)))
        uv = Path(sys.executable).parent / "uv"
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", oldest]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += ["--constraint", ROOT / "config/constraints.txt", "--constraint", pinned]
        command += [*chosen, "--output-file", output, ROOT / "pyproject.toml"]
        subprocess.run(command, check=True)  # noqa: S603 - nothing of it comes from elsewhere
        return output.read_text()


def lock(path: Path, extras: tuple[str, ...], project: dict[str, Any]) -> None:
    """Write the team's part of a lock; where there is no lock yet, all of it is the template's."""
    template_part = path.read_text().partition(SEAM)[0] if path.exists() else ""
    locked = packages_of(resolve(project, extras, template_part))
    if not template_part:
        path.write_text("".join(locked.values()) + SEAM)
        return
    theirs = {name_of(pin) for pin in packages_of(template_part)}
    ours = [block for pin, block in locked.items() if name_of(pin) not in theirs]
    path.write_text(template_part + SEAM + "".join(ours))


def faults_of(path: Path, extras: tuple[str, ...], project: dict[str, Any]) -> list[str]:
    """Return the dependencies of pyproject.toml that the lock does not hold as they ask for it."""
    locked: dict[str, list[str]] = {}
    for pin in packages_of(path.read_text()):
        locked.setdefault(name_of(pin), []).append(str(Requirement(pin).specifier)[2:])
    optional = project.get("optional-dependencies", {})
    needed = [*project["dependencies"], *(need for e in extras for need in optional.get(e, []))]
    return [
        f"{path.relative_to(ROOT)} does not lock {need!r} of pyproject.toml. Run `make lock`."
        for need in needed
        if not any(map(Requirement(need).specifier.contains, locked.get(name_of(need), [])))
    ]


def main() -> None:
    """Lock, or with `--check` say what is not locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    faults = []
    for name, extras in LOCKS.items():
        path = Path(__file__).parent / name
        if "--check" in sys.argv[1:]:
            faults += faults_of(path, extras, project)
        else:
            lock(path, extras, project)
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
