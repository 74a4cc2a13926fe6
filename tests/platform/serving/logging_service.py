"""`stub_service.py` with one model more, whose features are about people.

    python logging_service.py FOLDER '{"prediction_log": {...}}'

`people` answers with a class, has sensitive features and is recognised again by its customer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from model_service.contract.contract import Contract, Feature, Output, Policy
from model_service.contract.rows import RowReader
from model_service.drift.profiling import profile_of
from model_service.registry.profile import TimeBlocks, write_profile
from model_service.serving import version_source
from model_service.serving.server import serve
from model_service.settings import Settings
from tests.platform.serving import stub_service

PEOPLE = Contract(
    name="people",
    contract_version="1.0",
    description="Says who stays.",
    features=(
        Feature(name="customer", type="integer"),
        Feature(name="email", type="string", max_length=80, sensitive=True),
        Feature(
            name="town",
            type="category",
            categories=("Ulm", "Jena"),
            sensitive=True,
            on_unknown=Policy("map_to", "Ulm"),
        ),
        Feature(name="age", type="number", minimum=0, maximum=120, on_out_of_range=Policy("clip")),
    ),
    output=Output(name="fate", type="class", meaning="who stays", classes=("stays", "leaves")),
    unknown_fields="ignore",
)
MODEL_YAML = "ground_truth: {expected: true, within_days: 90, key: [customer]}\n"
stub_service.CONTRACTS["people"] = PEOPLE
stub_service.TRAFFIC += '  people: {champion: "1", pinned: [], history: []}\n'


class PeopleVersion(stub_service.StubVersion):
    """Answers by the age alone."""

    def predict(self, values: Any) -> Any:
        if self.model != "people":
            return super().predict(values)
        if any(row[3] == 113 for row in values):
            raise ValueError("nobody is that old")
        shares = np.array([[1 - row[3] / 120, row[3] / 120] for row in values])
        kinds = [PEOPLE.output.classes[int(share[1] > 0.5)] for share in shares]
        return SimpleNamespace(values=kinds, probabilities=shares)


def load(folder: Path, rows_limit: int = 10_000) -> stub_service.StubVersion:
    """Stand for `load_version`."""
    if folder.parent.name == "people":
        return PeopleVersion("people", folder.name, rows_limit)
    return stub_service.load_stub(folder, rows_limit)


if __name__ in ("__main__", "__mp_main__"):
    version_source.load_version = load  # type: ignore[assignment, attr-defined]


def write_reference(folder: Path) -> None:
    """Write the profile of 60 people, half of them from each town."""
    people = [
        {"customer": n, "email": f"{n}@x", "town": PEOPLE.features[2].categories[n % 2], "age": n}
        for n in range(60)
    ]
    read = RowReader(PEOPLE).read_rows(people)
    answers = PeopleVersion("people", "1", 100).predict(read.values)
    profile = profile_of(PEOPLE, read, answers)
    hours = TimeBlocks(1, (2,) * 48)
    write_profile(folder, msgspec.structs.replace(profile, time=hours))


if __name__ == "__main__":
    given: dict[str, Any] = msgspec.json.decode(sys.argv[2])
    server = {"port": 0, "drain_seconds": 0, **given.pop("server", {})}
    settings = msgspec.convert({"name": "stub", "server": server, **given}, Settings)
    repository = stub_service.make_repository(Path(sys.argv[1]))
    folder = repository.model_folder("people")
    folder.mkdir(exist_ok=True)
    (folder / "model.yaml").write_text(MODEL_YAML)
    published = repository.root / "registry" / "people" / "1"
    published.mkdir(parents=True, exist_ok=True)
    (published / "manifest.json").touch()
    write_reference(published)
    serve(settings, repository)
