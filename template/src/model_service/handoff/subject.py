"""The repository under check, and what several proofs share of it."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from prometheus_client.samples import Sample

from model_service.contract.contract import Contract
from model_service.contract.examples import example_rows
from model_service.contract.reading import read_contract
from model_service.handoff.outcome import SkippedError, UnmetError
from model_service.handoff.running_service import RunningService
from model_service.handoff.scratch import SCRATCH_STORES, link_repository, make_scratch
from model_service.registry.loaded_version import LoadedVersion, VersionError, load_version
from model_service.registry.registry import Registry
from model_service.registry.traffic import Traffic, read_traffic
from model_service.repository import Repository
from model_service.settings import Settings, read_settings


class Subject:
    """What is looked at. Services are started when the first proof asks for one, and stopped when
    the subject is closed."""

    def __init__(
        self,
        repository: Repository,
        today: dt.date,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.repository = repository
        self.root = repository.root
        self.today = today
        self.settings: Settings = read_settings(
            repository, os.environ if environ is None else environ
        )
        self._folder = tempfile.TemporaryDirectory(prefix="handoff-")
        self._started: list[RunningService] = []

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for service in self._started:
            service.stop()
        self._folder.cleanup()

    @property
    def command(self) -> str:
        """The name of the service's command."""
        return self.settings.name

    @cached_property
    def contracts(self) -> dict[str, Contract]:
        """The contract of every model, by the model's name."""
        names = self.repository.model_names()
        if not names:
            raise SkippedError(f"there is no model yet: {self.command} new NAME")
        return {
            name: read_contract(self.repository.model_folder(name) / "contract.yaml")
            for name in names
        }

    @cached_property
    def traffic(self) -> Traffic:
        """Which version of each model answers."""
        return read_traffic(self.repository.traffic)

    @cached_property
    def registry(self) -> Registry:
        """The trained versions."""
        return Registry(self.root / self.settings.stores.registry)

    @cached_property
    def champions(self) -> dict[str, LoadedVersion]:
        """The champion of every model, by the model's name."""
        found = {}
        for name, version in self.champion_names.items():
            try:
                found[name] = load_version(self.registry.folder(name, version))
            except VersionError as error:
                raise UnmetError(f"{name} {version}: {error}") from None
        return found

    @cached_property
    def champion_names(self) -> dict[str, str]:
        """The number of the champion of every model, by the model's name."""
        found = {}
        for name in self.contracts:
            entry = self.traffic.models.get(name)
            if entry is None or entry.champion is None:
                raise SkippedError(f"{name} has no champion yet: {self.command} train {name}")
            found[name] = entry.champion
        return found

    def require_champions(self) -> None:
        """Return if every model has a champion; without one there is nothing to ask.

        Raises:
            SkippedError: a model has none yet.
        """
        _ = self.champion_names

    @cached_property
    def served(self) -> dict[str, Contract]:
        """The contract that callers of each model meet: that of its champion."""
        return {model: champion.contract for model, champion in self.champions.items()}

    def rows(self, model: str) -> list[dict[str, Any]]:
        """Return rows that the champion of a model answers, dirty ones among them."""
        return [golden.row for golden in self.champions[model].golden[-5:]]

    @cached_property
    def service(self) -> RunningService:
        """The service of a scratch copy, with a second and a broken version of each champion."""
        return self.start(self.scratch)

    @cached_property
    def scratch(self) -> Repository:
        """The folder that `service` runs in."""
        return self.new_scratch("scratch")

    @cached_property
    def stub(self) -> RunningService:
        """The service that answers without a trained model."""
        folder = self.folder("stub")
        link_repository(self.root, folder)
        return self.start(Repository(folder), "--stub")

    def new_scratch(self, name: str) -> Repository:
        """Lay out one more folder to run a service in."""
        self.require_champions()
        folder = self.folder(name)
        try:
            return make_scratch(self.repository, self.registry, self.traffic, folder)
        except VersionError as error:
            raise UnmetError(str(error)) from None

    def folder(self, name: str) -> Path:
        """Make an empty folder that is gone when the subject is closed."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder.name))

    def start(self, repository: Repository, *arguments: str, **settings: str) -> RunningService:
        """Start a service that is stopped at the latest when the subject is closed."""
        settings = SCRATCH_STORES | settings
        service = RunningService(repository.root, *arguments, settings=settings)
        self._started.append(service)
        service.wait_until_loaded()
        return service

    def run(
        self, *command: str, seconds: float = 300, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository, and return how it ended and what it printed."""
        try:
            return subprocess.run(  # noqa: S603
                command,
                cwd=self.root,
                env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **(environ or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnmetError(f"{Path(command[0]).name} did not end within {seconds:g} s") from None

    def run_service_command(self, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the service in a folder beside the repository, on stores of its own."""
        command = [sys.executable, "-m", "model_service", "--repository", str(root)]
        return self.run(*command, *arguments, environ=SCRATCH_STORES)

    @cached_property
    def files(self) -> list[str]:
        """The files of the repository that are in git or would be, by their paths."""
        listed = self.run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if listed.returncode:
            raise SkippedError("the repository is not in git yet: git init && git add --all")
        names = sorted(set(listed.stdout.split("\0")) - {""})
        return [name for name in names if (self.root / name).is_file()]

    @cached_property
    def samples(self) -> list[Sample]:
        """What /metrics of `service` says after clean, dirty and refused rows were sent."""
        for model, contract in self.served.items():
            row = dict(example_rows(contract)[0])
            self.service.predict(model, [row])
            self.service.predict(model, [3])
            for feature in contract.features:
                self.service.predict(model, [{**row, feature.name: None}, row])
        return self.service.metrics()
