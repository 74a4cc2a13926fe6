"""A real service over two models without any library for models: run as a process of its own.

    python stub_service.py FOLDER '{"limits": {...}}'

`sums` adds two numbers and misbehaves on request: its feature `how` says how. Version 3 of it adds
1000 as well, 4 never loads, 5 takes half a second and 6 raises. `broken` never loads.
Only the reading of version folders is replaced; everything above it is the product's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from model_service.contract.contract import Contract, Feature, Output, Policy
from model_service.contract.rows import RowReader
from model_service.registry.loaded_version import VersionError
from model_service.repository import Repository
from model_service.serving import http_protocol, version_source
from model_service.serving import server as server_module
from model_service.serving.server import ServeError, serve
from model_service.settings import Settings

WAYS = ("well", "raise", "nan", "sleep", "exit")

SUMS = Contract(
    name="sums",
    contract_version="1.0",
    description="Adds two numbers.",
    features=(
        Feature(name="a", type="number", minimum=0, maximum=100, on_out_of_range=Policy("clip")),
        Feature(name="b", type="number", on_missing=Policy("impute", 1.0)),
        Feature(name="how", type="category", categories=WAYS, on_unknown=Policy("map_to", "well")),
    ),
    output=Output(name="sum", type="number", meaning="a plus b"),
    examples=({"a": 1.5, "b": 2, "how": "well"},),
)
KINDS = msgspec.structs.replace(
    SUMS,
    name="kinds",
    description="Says whether a number is small or large.",
    output=Output(name="kind", type="class", meaning="size of a", classes=("small", "large")),
)
CONTRACTS = {"sums": SUMS, "kinds": KINDS}
TRAFFIC = """
models:
  sums: {champion: "2", pinned: ["1"], history: []}
  kinds: {champion: "1", pinned: [], history: []}
"""
BROKEN = """
  broken: {champion: "1", pinned: [], history: []}
"""


class StubVersion:
    """Stands for `LoadedVersion`."""

    def __init__(self, model: str, version: str, rows_limit: int) -> None:
        self.model = model
        self.version = version
        self.contract = CONTRACTS[model]
        self.reader = RowReader(self.contract, rows_limit)
        self.manifest = SimpleNamespace(format="stub")
        self.runs_inline = model != "sums" or version != "1"

    def replay_golden(self) -> list[str]:
        return []

    def predict(self, values: Sequence[tuple[Any, ...]]) -> Any:
        for row in values:
            if row[2] == "raise":
                raise ValueError("secret value 4711")
            if row[2] == "exit":
                raise SystemExit(3)
            if row[2] == "sleep":
                time.sleep(row[1])
        if any(row[2] == "nan" for row in values):
            raise ArithmeticError("NaN")
        if self.contract.output.classes:
            shares = np.array([[1 - row[0] / 100, row[0] / 100] for row in values])
            kinds = ["large" if share[1] > 0.5 else "small" for share in shares]
            return SimpleNamespace(values=kinds, probabilities=shares)
        if self.version == "5":
            time.sleep(0.5)
        if self.version == "6":
            raise ValueError(f"secret value {4700 + 11}")
        more = 1000 if self.version == "3" else 0
        return SimpleNamespace(
            values=[row[0] + row[1] + more for row in values], probabilities=None
        )


def load_stub(folder: Path, rows_limit: int = 10_000) -> StubVersion:
    """Stand for `load_version`."""
    if folder.parent.name == "broken" or (folder.parent.name, folder.name) == ("sums", "4"):
        raise VersionError("digest_mismatch", "model.onnx is not the file that was trained")
    return StubVersion(folder.parent.name, folder.name, rows_limit)


def make_repository(root: Path, *, broken: bool = False) -> Repository:
    """Write the files that the service reads."""
    (root / "traffic.yaml").write_text(TRAFFIC + (BROKEN if broken else ""))
    (root / "service.yaml").write_text("name: stub\n")
    for version in (*(f"sums/{number}" for number in range(1, 7)), "kinds/1", "broken/1"):
        (root / "registry" / version).mkdir(parents=True, exist_ok=True)
        (root / "registry" / version / "manifest.json").touch()
    (root / "models" / "untrained").mkdir(parents=True, exist_ok=True)
    (root / "models" / "untrained" / "contract.yaml").touch()
    return Repository(root)


# Worker processes import this module too and do not run what is below; tests that import it are
# not the service, and must not be changed.
if __name__ in ("__main__", "__mp_main__"):
    version_source.load_version = load_stub  # type: ignore[assignment, attr-defined]

if __name__ == "__main__":
    given: dict[str, Any] = msgspec.json.decode(sys.argv[2])
    with_broken = given.pop("broken", False)
    # No test has the patience that the service has.
    server_module.SECONDS_IDLE_CONNECTION = given.pop("idle_seconds", 75)
    http_protocol.SECONDS_TO_TAKE_AN_ANSWER = given.pop("take_seconds", 30.0)
    server = {"port": 0, "drain_seconds": 0, **given.pop("server", {})}
    settings = msgspec.convert({"name": "stub", "server": server, **given}, Settings)
    try:
        serve(settings, make_repository(Path(sys.argv[1]), broken=with_broken))
    except ServeError as error:
        sys.exit(f"serve: {error}")
