"""What watching costs a request of one row with 50 features, in microseconds of CPU.

    python benchmarks/monitoring/hot_path.py

"On the way" is what the event loop does before the next request: it makes one object and appends it
to the queue. "Behind" is what the thread does afterwards for each row: its features, its counts,
and the batch in SQLite. Both are the code of the service; only the model is left out.
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
from model_service.serving.row_answers import RowAnswer  # noqa: E402
from model_service.settings import Settings  # noqa: E402

REQUESTS = 20_000
ROUNDS = 7
NUMBERS = [Feature(name=f"x{index}", type="number") for index in range(40)]
TOWNS = [
    Feature(name=f"c{index}", type="category", categories=("a", "b", "c")) for index in range(10)
]
CONTRACT = Contract(
    name="wide",
    contract_version="1.0",
    description="50 features.",
    features=(*NUMBERS, *TOWNS),
    output=Output(name="kind", type="class", meaning="kind", classes=("no", "yes")),
)


def bodies(count: int) -> list[bytes]:
    """Return requests of one row each."""
    chance = np.random.default_rng(1)
    numbers = chance.normal(size=(count, len(NUMBERS))).tolist()
    towns = chance.choice(["a", "b", "c"], size=(count, len(TOWNS))).tolist()
    names = CONTRACT.feature_names
    return [
        msgspec.json.encode({"rows": [dict(zip(names, (*a, *b), strict=True))]})
        for a, b in zip(numbers, towns, strict=True)
    ]


def version(root: Path, reader: RowReader) -> LoadedVersion:
    """Return what stands for a loaded version, with a profile to count by."""
    rows = [msgspec.json.decode(body)["rows"][0] for body in bodies(2000)]
    shares = np.tile([0.75, 0.25], (2000, 1))
    profile = profile_of(CONTRACT, reader.read_rows(rows), Answers(["no"] * 2000, shares))
    folder = root / "registry" / "wide" / "1"
    folder.mkdir(parents=True)
    write_profile(folder, profile)
    return cast("LoadedVersion", Standing(reader))


class Standing:
    """Stands for a loaded version."""

    def __init__(self, reader: RowReader) -> None:
        self.model, self.version = "wide", "1"
        self.contract, self.reader = CONTRACT, reader


def requests(loaded: LoadedVersion) -> Iterator[tuple[Any, ...]]:
    """Yield what the event loop has in its hands once a request is answered."""
    for number, body in enumerate(bodies(REQUESTS)):
        read, entity = loaded.reader.read_body(body)
        answer = RowAnswer(f"5f1c0a9be2d4-{number:x}", "no", {"no": 0.75, "yes": 0.25})
        yield loaded, f"5f1c0a9be2d4-{number:x}", entity, body, read, [answer]


def measure(root: Path) -> tuple[float, float]:
    """Return microseconds a request on the way, and behind."""
    settings = Settings(name="bench")
    log = LogWriter(io.BytesIO(), "bench")
    recorder = PredictionRecorder(settings, Repository(root), log, Hooks({}, print))
    loaded = version(root, RowReader(CONTRACT))
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
    return on_the_way / REQUESTS * 1e6, behind / REQUESTS * 1e6


def main() -> None:
    """Measure and print."""
    figures = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            figures.append(measure(Path(folder)))
    way, behind = (statistics.median(column) for column in zip(*figures, strict=True))
    print("| 50 features, one row | CPU µs a request |\n|---|---|")
    print(f"| on the way (event loop) | {way:.2f} |\n| behind (thread) | {behind:.1f} |")


if __name__ == "__main__":
    main()
