"""What a worker counts of each version in each minute: exact, and without keeping any row."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.contract.rows import RowWarning
from model_service.contract.value_check import feature_in
from model_service.drift.counts import Counter, Counts
from model_service.prediction_log.records import LoggedCounts
from model_service.registry.loaded_version import LoadedVersion
from model_service.registry.manifest import DRILL
from model_service.registry.profile import ProfileMismatchError, read_profile
from model_service.serving.answered_request import AnsweredRequest
from model_service.serving.row_answers import RowAnswer, in_order

SECONDS = 60


class _Answers(msgspec.Struct):
    values: list[Any]
    probabilities: NDArray[np.float64]


class MinuteCounts:
    """The counts of one worker. `registry` is the folder of the versions' profiles; `tell` takes a
    sentence for the log."""

    def __init__(self, registry: Path, tell: Callable[[str], None]) -> None:
        self._registry = registry
        self._tell = tell
        self._worker = secrets.token_hex(6)
        self._counters: weakref.WeakKeyDictionary[LoadedVersion, list[Counter]] = (
            weakref.WeakKeyDictionary()
        )
        self._newest: dict[tuple[str, str], tuple[int, Counts]] = {}
        self._unwritten: dict[tuple[str, str, int], Counts] = {}

    def add(self, requests: Iterable[AnsweredRequest]) -> None:
        """Count what came in and what was answered."""
        by_version: dict[tuple[LoadedVersion, int], list[AnsweredRequest]] = {}
        loaded, minute, together = None, 0, list[AnsweredRequest]()
        for request in requests:
            # Most follow one of the same version, in the same minute.
            if request.loaded is not loaded or not 0 <= request.at - minute < SECONDS:
                loaded, minute = request.loaded, int(request.at) // SECONDS * SECONDS
                together = by_version.setdefault((loaded, minute), [])
            together.append(request)
        for (loaded, minute), together in by_version.items():
            for counter in self._counter(loaded):
                self._add((loaded.model, loaded.version), minute, _counted(counter, together))

    def unwritten(self) -> list[LoggedCounts]:
        """Return what the log does not hold yet, each minute with all that was counted in it."""
        return [
            LoggedCounts(model, version, minute, self._worker, counts.encode())
            for (model, version, minute), counts in self._unwritten.items()
        ]

    def forget_unwritten(self) -> None:
        """Take note that all of it is written."""
        self._unwritten.clear()

    def _add(self, version: tuple[str, str], minute: int, counts: Counts) -> None:
        # A request that comes late counts in the newest minute: those before may be written.
        newest, whole = self._newest.get(version, (minute, Counts()))
        if minute > newest:
            newest, whole = minute, Counts()
        whole.add(counts)
        self._newest[version] = (newest, whole)
        self._unwritten[(*version, newest)] = whole

    def _counter(self, loaded: LoadedVersion) -> list[Counter]:
        """Return the counter of a version, or none where it has no profile to count by."""
        found = self._counters.get(loaded)
        if found is None:
            found = self._counters[loaded] = []
            try:
                version = loaded.version.removesuffix(DRILL)
                profile = read_profile(self._registry / loaded.model / version)
                found.append(Counter(loaded.contract, profile))
            except ProfileMismatchError as error:
                self._tell(str(error))
            except OSError as error:  # it may be read again
                del self._counters[loaded]
                self._tell(str(error))
        return found


def _counted(counter: Counter, requests: Sequence[AnsweredRequest]) -> Counts:
    reads = [request.read for request in requests]
    answered = [row for request in requests for row in request.rows if isinstance(row, RowAnswer)]
    shares = [row.probabilities for row in answered if row.probabilities is not msgspec.UNSET]
    answers = _Answers([row.value for row in answered], in_order(shares))
    warned = any(read.warnings for read in reads)
    return counter.count(
        [row for read in reads for row in read.values],
        [_problems(read.warnings.get(at, ())) for read in reads for at in read.positions]
        if warned
        else (),
        answers,
        refused=[
            [(feature_in(fault.pointer), fault.code) for fault in faults]
            for read in reads
            if read.faults
            for faults in read.faults.values()
        ],
        at=np.array([one.at for one in requests for _ in one.read.values], dtype=np.float64),
    )


def _problems(warnings: Sequence[RowWarning]) -> Sequence[tuple[str, str]]:
    return [(one.feature, one.problem) for one in warnings] if warnings else ()
