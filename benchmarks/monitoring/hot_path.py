"""What logging and watching cost a request of one row, in microseconds of CPU.

    python benchmarks/monitoring/hot_path.py

"On the way" is what the event loop does before the next request: it makes one object and appends it
to the queue. The thread behind it then writes the row into the prediction log, in SQLite, and
counts its features and its answer. All of it is the code of the service; only the model is left
out. Numbers have all their digits, which costs most.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "template" / "src")]

import msgspec  # noqa: E402
import numpy as np  # noqa: E402

from model_service.contract.contract import Contract, Feature, Output  # noqa: E402
from model_service.contract.rows import RowReader  # noqa: E402
from model_service.drift.profiling import Answers, profile_of  # noqa: E402
from model_service.hooks import Hooks  # noqa: E402
from model_service.registry.loaded_version import LoadedVersion  # noqa: E402
from model_service.registry.profile import write_profile  # noqa: E402
from model_service.repository import Repository  # noqa: E402
from model_service.serving.answered_request import AnsweredRequest  # noqa: E402
from model_service.serving.logs import LogWriter  # noqa: E402
from model_service.serving.prediction_recorder import PredictionRecorder  # noqa: E402
from model_service.serving.row_answers import RowAnswer, shares_of  # noqa: E402
from model_service.settings import Settings  # noqa: E402

REQUESTS = 20_000
ROUNDS = 7
FEATURES = {10: (7, 3), 50: (40, 10)}
"""How many are numbers and categories."""


def contract_of(numbers: int, categories: int) -> Contract:
    """Return a contract of so many features."""
    towns = [
        Feature(name=f"c{index}", type="category", categories=("a", "b", "c"))
        for index in range(categories)
    ]
    return Contract(
        name="wide",
        contract_version="1.0",
        description="Many features.",
        features=(*(Feature(name=f"x{index}", type="number") for index in range(numbers)), *towns),
        output=Output(name="kind", type="class", meaning="kind", classes=("no", "yes")),
    )


def bodies(contract: Contract, count: int) -> list[bytes]:
    """Return requests of one row each."""
    chance = np.random.default_rng(1)
    columns = [
        chance.normal(size=count).tolist()
        if feature.type == "number"
        else chance.choice(["a", "b", "c"], size=count).tolist()
        for feature in contract.features
    ]
    return [
        msgspec.json.encode({"rows": [dict(zip(contract.feature_names, row, strict=True))]})
        for row in zip(*columns, strict=True)
    ]


def version(root: Path, contract: Contract) -> LoadedVersion:
    """Return what stands for a loaded version, with a profile to count by."""
    reader = RowReader(contract)
    rows = [msgspec.json.decode(body)["rows"][0] for body in bodies(contract, 2000)]
    shares = np.tile([0.75, 0.25], (2000, 1))
    profile = profile_of(contract, reader.read_rows(rows), Answers(["no"] * 2000, shares))
    folder = root / "registry" / "wide" / "1"
    folder.mkdir(parents=True)
    write_profile(folder, profile)
    return cast("LoadedVersion", Standing(reader))


class Standing:
    """Stands for a loaded version."""

    def __init__(self, reader: RowReader) -> None:
        self.model, self.version = "wide", "1"
        self.contract, self.reader = reader.contract, reader


def requests(loaded: LoadedVersion) -> Iterator[tuple[Any, ...]]:
    """Yield what the event loop has in its hands once a request is answered."""
    shares = shares_of(loaded.contract.output.classes)
    for number, body in enumerate(bodies(loaded.contract, REQUESTS)):
        read, entity = loaded.reader.read_body(body)
        answer = RowAnswer(f"5f1c0a9be2d4-{number:x}", "no", shares(0.75, 0.25))
        yield loaded, f"5f1c0a9be2d4-{number:x}", entity, body, read, [answer]


class Stopwatch:
    """The CPU time of a thread in some methods of an object."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, owner: object, name: str) -> None:
        """Measure a method from now on."""
        method = getattr(owner, name)

        def timed(*given: Any) -> Any:
            begun = time.thread_time()
            result = method(*given)
            self.seconds += time.thread_time() - begun
            return result

        setattr(owner, name, timed)


def measure(root: Path, contract: Contract) -> tuple[float, float, float]:
    """Return microseconds a request: on the way, in the log, and for counting."""
    settings = Settings(name="bench")
    log = LogWriter(io.BytesIO(), "bench")
    recorder = PredictionRecorder(settings, Repository(root), log, Hooks({}, print))
    counting = Stopwatch()
    for owner, method in (
        (recorder._counts, "add"),
        (recorder._counts, "unwritten"),
        (recorder._store, "add_counts"),
    ):
        counting.watch(owner, method)
    loaded = version(root, contract)
    answered = list(requests(loaded))
    begun = time.thread_time()
    for version_, request_id, entity, body, read, answers in answered:
        at = time.time()
        recorder.append(
            AnsweredRequest(
                version_, "champion", request_id, entity, body, read, answers, at, 0.001
            )
        )
    on_the_way = time.thread_time() - begun
    spent = time.process_time()
    recorder.start()
    recorder.stop(60)
    behind = time.process_time() - spent
    assert recorder.written == REQUESTS
    figures = (on_the_way, behind - counting.seconds, counting.seconds)
    way, logging, counted = (seconds / REQUESTS * 1e6 for seconds in figures)
    return way, logging, counted


def main() -> None:
    """Measure and print."""
    print("CPU µs of a request of one row:\n")
    print("| features | on the way (event loop) | in the log | counted |\n|---|---|---|---|")
    for features, kinds in FEATURES.items():
        figures = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                figures.append(measure(Path(folder), contract_of(*kinds)))
        way, logging, counted = map(statistics.median, zip(*figures, strict=True))
        print(f"| {features} | {way:.2f} | {logging:.1f} | {counted:.1f} |", flush=True)


if __name__ == "__main__":
    main()
