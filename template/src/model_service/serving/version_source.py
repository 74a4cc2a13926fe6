"""Where the versions come from that answer: the registry or, for the stub, the contracts alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from model_service.contract.contract import Contract
from model_service.contract.reading import ContractError, read_contract
from model_service.contract.rows import RowReader
from model_service.contract.stub_answers import row_seeds, stub_answers
from model_service.registry.inputs import InputLayout
from model_service.registry.loaded_version import LoadedVersion, VersionError, load_version
from model_service.registry.manifest import GitState, Manifest, stamp_of
from model_service.registry.registry import Registry
from model_service.registry.traffic import ModelTraffic, Traffic, read_traffic
from model_service.repository import Repository
from model_service.settings import Settings

STUB: Final = "stub"
"""The version that a stub answers as, and its format."""
FIRST_VERSION = "1"
SEED = "seed"


class VersionSource(Protocol):
    """What the loader asks for versions."""

    def traffic(self) -> Traffic:
        """Return which versions answer.

        Raises:
            TrafficError: `traffic.yaml` cannot be read.
        """

    def versions(self, model: str) -> list[str]:
        """Return the versions that there are, the oldest first."""

    def stamp(self, model: str, version: str) -> object:
        """Return what changes when a file of a version is written; None of one without files."""

    def load(self, model: str, version: str) -> LoadedVersion:
        """Return a version that may answer.

        Raises:
            VersionError: it may not; says why.
        """


def source_of(settings: Settings, repository: Repository) -> VersionSource:
    """Return where this service gets its versions from."""
    kind = StubVersions if settings.server.stub else TrainedVersions
    return kind(settings, repository)


class TrainedVersions:
    """Versions of the registry: proven by their digests, and by replaying golden predictions."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self._settings = settings
        self._repository = repository
        self._registry = Registry(repository.root / settings.stores.registry)

    def traffic(self) -> Traffic:
        """Return what `traffic.yaml` says."""
        return read_traffic(self._repository.traffic)

    def versions(self, model: str) -> list[str]:
        """Return the trained versions."""
        return self._registry.versions(model)

    def stamp(self, model: str, version: str) -> object:
        """Return what changes when a file of a version is written."""
        return stamp_of(self._registry.path / model / version)

    def load(self, model: str, version: str) -> LoadedVersion:
        """Return a version that answers as it did when it was trained."""
        folder = self._registry.folder(model, version)
        loaded = load_version(folder, rows_limit=self._settings.limits.rows_per_request)
        differences = loaded.replay_golden()
        if differences:
            raise VersionError(
                "golden_mismatch",
                f"{len(differences)} golden predictions are answered differently now, the first: "
                f"{differences[0]}. Run `{self._settings.name} verify {model}`, and train a new "
                "version with the libraries that are installed.",
            )
        return loaded


class StubVersions:
    """Versions that nobody trained: all of the contract holds, and only the values are made up.

    Each model answers as the version `stub`. Callers who ask for a number find one as well, so that
    no address changes with the real model: 1, and what `traffic.yaml` names already.
    """

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self._settings = settings
        self._repository = repository

    def traffic(self) -> Traffic:
        """Return that the stub of every model answers."""
        named = read_traffic(self._repository.traffic).models
        return Traffic(
            {
                name: ModelTraffic(
                    champion=STUB, pinned=(FIRST_VERSION, *named.get(name, ModelTraffic()).served)
                )
                for name in self._repository.model_names()
            }
        )

    def versions(self, _: str) -> list[str]:
        """Return that there are none but those that answer."""
        return []

    def stamp(self, model: str, version: str) -> None:
        """Return that a stub has no files."""

    def load(self, model: str, version: str) -> LoadedVersion:
        """Return a version made from the contract in the model's folder."""
        try:
            contract = read_contract(self._repository.model_folder(model) / "contract.yaml")
        except ContractError as error:
            raise VersionError("invalid_contract", str(error)) from error
        return stub_version(contract, version, self._settings.limits.rows_per_request)


def stub_version(contract: Contract, version: str, rows_limit: int) -> LoadedVersion:
    """Return a version that answers every row by `stub_answers`."""
    reader = RowReader(contract, rows_limit)
    manifest = _manifest(contract, version)
    loaded = LoadedVersion(manifest, reader, _seeds, _StubModel(contract), ())
    loaded.runs_inline = True
    return loaded


class _StubModel:
    """Answers seeds instead of features."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return made-up answers."""
        return stub_answers(self._contract, inputs[SEED].tolist())


def _seeds(columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    return {SEED: row_seeds(columns)}


def _manifest(contract: Contract, version: str) -> Manifest:
    return Manifest(
        model=contract.name,
        version=version,
        created_at="",
        contract_version=contract.contract_version,
        format=STUB,
        model_file="",
        inputs=InputLayout((SEED,), ()),
        classes=contract.output.classes,
        metrics={},
        baseline={},
        gates=(),
        parity=None,
        rows={},
        data_sha256="",
        seed=0,
        git=GitState(None, False),
        libraries={},
    )
