"""Resolve the exact versions that are proven together, for services and for these tests.

Writes `template/config/constraints.txt` from the dependencies of a rendered service, for every
supported Python at once, and `requirements.txt` from the same versions and `requirements.in`.
"""

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
    """Resolve both files; the one of the tests holds the versions of the services."""
    with tempfile.TemporaryDirectory() as folder:
        service = Path(folder) / "service"
        copier.run_copy(str(ROOT), service, defaults=True, quiet=True, vcs_ref="HEAD")
        pyproject = service / "pyproject.toml"
        needs = [
            str(pyproject),
            "--extra",
            "train",
            "--extra",
            "postgresql",
            "--group",
            f"{pyproject}:dev",
        ]
        resolve(CONSTRAINTS, "--upgrade", *needs)
        needs += ["--constraint", str(CONSTRAINTS), str(ROOT / "requirements.in")]
        resolve(ROOT / "requirements.txt", "--upgrade", *needs)


if __name__ == "__main__":
    main()
