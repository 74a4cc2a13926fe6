"""Where things are in a repository of models."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec


class RepositoryError(Exception):
    """The command was not run inside a repository of models."""


class Repository(msgspec.Struct, frozen=True):
    """The paths of one repository; `root` is the folder of `service.yaml`."""

    root: Path

    @property
    def service_file(self) -> Path:
        """The service: owners, limits, where the stores are."""
        return self.root / "service.yaml"

    @property
    def traffic(self) -> Path:
        """Which version of each model answers."""
        return self.root / "traffic.yaml"

    @property
    def models(self) -> Path:
        """One folder a model."""
        return self.root / "models"

    def model_folder(self, name: str) -> Path:
        """Return the folder of the model called `name`, whether it exists or not."""
        return self.models / name

    def model_names(self) -> list[str]:
        """Return the models that have a contract, in alphabetical order."""
        return sorted(path.parent.name for path in self.models.glob("[!._]*/contract.yaml"))


def how_to_install(extra: str) -> str:
    """Return the command that adds an extra of pyproject.toml to this repository's environment.

    Without `-e`, the engine would be copied beside the libraries, where no edit of src/ and no
    update of the template reaches it.
    """
    return f"`.venv/bin/uv pip install -c config/constraints.txt -e '.[{extra}]'`"


def find_repository(start: Path | None = None) -> Repository:
    """Return the repository that `start` (or the working directory) lies in.

    Raises:
        RepositoryError: neither the folder nor one above it has a `service.yaml`.
    """
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / "service.yaml").is_file():
            return Repository(candidate)
    raise RepositoryError(
        f"No service.yaml in {folder} or above it. Change into the service's repository, "
        "or name it with --repository."
    )


def git(root: Path, *arguments: str) -> str | None:
    """Return what git prints in a folder, or None if it fails or is not there."""
    try:
        ran = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return ran.stdout if ran.returncode == 0 else None
