"""Resolve the exact versions that are proven together, for services and for these tests.

Writes `template/config/constraints.txt` from the dependencies of a rendered service, for every
supported Python at once, and `requirements.txt` from the same versions and `requirements.in`. Then
locks what the image installs, `template/deploy/requirements*.txt`; `--locks` does only that.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import copier

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "template/config/constraints.txt"
OLDEST_PYTHON = "3.11"


def resolve(output: Path, *arguments: str | Path) -> None:
    """Write the versions that `uv` finds for `arguments`, and nothing about where it found them."""
    subprocess.run(
        [
            Path(sys.executable).parent / "uv",
            *["pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON],
            *["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"],
            *["--output-file", output, *arguments],
        ],
        check=True,
    )


def main() -> None:
    """Resolve all files, those of the tests to the versions of the services."""
    with tempfile.TemporaryDirectory() as folder:
        service = Path(folder) / "service"
        copier.run_copy(str(ROOT), service, defaults=True, quiet=True, vcs_ref="HEAD")
        if "--locks" not in sys.argv[1:]:
            resolve_all(service)
        lock(service)


def resolve_all(service: Path) -> None:
    """Find the newest versions of everything: of services, and of these tests."""
    pyproject = service / "pyproject.toml"
    needs = [str(pyproject), "--all-extras", "--group", f"{pyproject}:dev"]
    resolve(CONSTRAINTS, "--upgrade", *needs)
    needs += ["--constraint", str(CONSTRAINTS), str(ROOT / "requirements.in")]
    resolve(ROOT / "requirements.txt", "--upgrade", *needs)


def lock(service: Path) -> None:
    """Lock what the image of a service installs, at the versions of the constraints."""
    shutil.copy(CONSTRAINTS, service / "config/constraints.txt")
    for old in (service / "deploy").glob("requirements*.txt"):
        old.unlink()
    subprocess.run([sys.executable, service / "deploy/lock.py"], check=True)
    for made in (service / "deploy").glob("requirements*.txt"):
        shutil.copy(made, ROOT / "template/deploy")


if __name__ == "__main__":
    main()
