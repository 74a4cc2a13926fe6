"""What the monitor remembers of each version; kept in the store, so that a restart forgets nothing.

Times are in seconds since 1970.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from model_service.prediction_log.store import PredictionStore

WINDOWS_KEPT = 400
ALARMS_KEPT = 100
POINTS_KEPT = 400
Source = Literal["measured", "estimated"]


class Shift(msgspec.Struct, frozen=True, array_like=True):
    """The strongest change of one feature in a window.

    `effect` and `limit` are those of `drift.rule.Finding`; `is_expected` where model.yaml says so.
    """

    kind: str
    effect: float
    limit: float
    alarms: bool
    is_expected: bool = False


class Window(msgspec.Struct, frozen=True):
    """A closed window. `counts` are encoded `drift.counts.Counts`, kept of the newest windows only;
    `seconds` and `scores` are quantiles, by their names."""

    start: float
    end: float
    rows: int
    refused: int
    problems: dict[str, int]
    shifts: dict[str, Shift]
    seconds: dict[str, float]
    scores: dict[str, float]
    counts: bytes | None


class Alarm(msgspec.Struct):
    """A change that is told to people: open until `closed_at`. `since` is the start of the first
    window that alarmed, `windows` how many had to be merged to see it, `calm` how many in a row
    did not show it any more."""

    feature: str
    kind: str
    since: float
    effect: float
    limit: float
    windows: int = 1
    calm: int = 0
    closed_at: float | None = None


class Quality(msgspec.Struct, frozen=True):
    """One metric over recent rows, with its interval; `source` says whether it is an estimate."""

    at: float
    metric: str
    source: Source
    value: float
    low: float
    high: float
    rows: int


class Truth(msgspec.Struct, frozen=True):
    """What is known of ground truth: the answers that have it, the share of those that are due,
    and how long it took in the mean."""

    rows: int = 0
    coverage: float | None = None
    lag_seconds: float | None = None
    last_received: float | None = None


class VersionMemory(msgspec.Struct):
    """Everything about one version. `cursor` is the minute from which counts are read again, and
    `consumed` what of them belongs to closed windows already. `broken` are pairs of features whose
    correlation was one and is another, `joint_left_out` features that logged rows do not hold. The
    longest time without a row is that since `gaps_since`; `gap_before` that of the weeks before."""

    model: str
    version: str
    first_seen: float | None = None
    last_row: float | None = None
    longest_gap: float = 0.0
    gap_before: float = 0.0
    gaps_since: float = 0.0
    open_since: float | None = None
    cursor: float = 0.0
    consumed: bytes | None = None
    open_rows: int = 0
    profile: str = "ok"
    last_run: float = 0.0
    windows: list[Window] = []
    alarms: list[Alarm] = []
    quality: list[Quality] = []
    quality_at: float = 0.0
    truth: Truth = Truth()
    joint_at: float = 0.0
    joint_change: float | None = None
    joint_left_out: tuple[str, ...] = ()
    broken: tuple[tuple[str, str, float, float], ...] = ()

    @property
    def open_alarms(self) -> list[Alarm]:
        """The alarms that hold now."""
        return [alarm for alarm in self.alarms if alarm.closed_at is None]

    def newest_quality(self) -> list[Quality]:
        """Return the last value of each metric, measured and estimated."""
        newest = {(point.metric, point.source): point for point in self.quality}
        return list(newest.values())

    def forget_the_oldest(self, windows_with_counts: int) -> None:
        """Keep what is needed: the history in numbers, and counts of the newest windows."""
        kept = self.windows[-WINDOWS_KEPT:]
        self.windows = [
            msgspec.structs.replace(window, counts=None)
            if window.counts is not None and place < len(kept) - windows_with_counts
            else window
            for place, window in enumerate(kept)
        ]
        self.alarms = self.alarms[-ALARMS_KEPT:]
        self.quality = self.quality[-POINTS_KEPT:]


class Drill(msgspec.Struct, frozen=True):
    """The last fire drill: when it began, and when an alarm was last raised for one."""

    started_at: float = 0.0
    alarmed_at: float = 0.0


# Numbers of numpy are floats to Python, and not to msgspec.
_encode = msgspec.msgpack.Encoder(enc_hook=float).encode
_memory = msgspec.msgpack.Decoder(VersionMemory)
_drill = msgspec.msgpack.Decoder(Drill)
_DRILL = "monitor/drill"


def recall(store: PredictionStore, model: str, version: str) -> VersionMemory:
    """Return what is remembered of a version; nothing of one that is new, or of an older format."""
    found = store.get_state(f"monitor/{model}/{version}")
    if found is not None:
        try:
            return _memory.decode(found)
        except msgspec.MsgspecError:
            pass
    return VersionMemory(model, version)


def remember(store: PredictionStore, memory: VersionMemory) -> None:
    """Keep what is known of a version."""
    store.set_state(f"monitor/{memory.model}/{memory.version}", _encode(memory))


def recall_drill(store: PredictionStore) -> Drill | None:
    """Return the last drill; None if there was none."""
    found = store.get_state(_DRILL)
    return _drill.decode(found) if found is not None else None


def remember_drill(store: PredictionStore, drill: Drill) -> None:
    """Keep how the last drill went."""
    store.set_state(_DRILL, _encode(drill))
