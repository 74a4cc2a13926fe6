"""The team's own monitoring hooks: functions in `hooks.py` beside `service.yaml`.

Each hook runs in a thread of its own, behind a bounded queue. One that raises or hangs delays and
fails nothing but itself: it is counted, and named in the log.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

HOOKS = ("on_load", "on_prediction", "on_rejection", "on_drift", "on_ground_truth")
MOST_WAITING = 1_000
SECONDS_UNTIL_HUNG = 10.0
Result = Literal["ok", "failed", "dropped", "hung"]
RESULTS: tuple[Result, ...] = ("ok", "failed", "dropped", "hung")
Tell = Callable[[str], None]


class HooksError(Exception):
    """`hooks.py` cannot be loaded; says why."""


class Loaded(msgspec.Struct, frozen=True):
    """A version became ready, or failed to load and why."""

    model: str
    version: str
    state: Literal["ready", "failed"]
    reason: str | None = None


class Rejection(msgspec.Struct, frozen=True):
    """A request of which some rows, or all, got no answer.

    `problem` is the last part of the problem's type, such as `rows-rejected`; `faults` are (JSON
    pointer from the root of the body, code), never a value. `at` is in seconds since 1970.
    """

    at: float
    request_id: str
    model: str
    version: str
    problem: str
    faults: tuple[tuple[str, str], ...] = ()


class Hooks:
    """The hooks that a team wrote; `names` says which. `tell` takes a sentence for the log."""

    def __init__(self, functions: dict[str, Callable[[Any], object]], tell: Tell) -> None:
        self.names = tuple(functions)
        self._lanes = {name: _Lane(name, f, tell) for name, f in functions.items()}

    def wants(self, name: str) -> bool:
        """Return whether the team wrote this hook."""
        return name in self._lanes

    def offer(self, name: str, event: Any) -> None:
        """Let a hook be called soon with an event; never blocks, never raises."""
        lane = self._lanes.get(name)
        if lane is not None:
            lane.offer(event)

    def count(self, name: str, result: Result) -> int:
        """Return how many calls of a hook had this result."""
        lane = self._lanes[name]
        lane.look_for_hang()
        return lane.calls[result]

    def wait(self, seconds: float) -> None:
        """Return when no event waits any more, or when the time is over."""
        deadline = time.monotonic() + seconds
        while any(lane.is_busy for lane in self._lanes.values()) and time.monotonic() < deadline:
            time.sleep(0.01)


class _Lane:
    """One hook with its queue and its thread."""

    def __init__(self, name: str, function: Callable[[Any], object], tell: Tell) -> None:
        self.calls: Counter[Result] = Counter()
        self._name = name
        self._function = function
        self._tell = tell
        self._events: deque[Any] = deque()
        self._arrived = threading.Event()
        self._call_began: float | None = None
        self._hung_is_told = False
        self._failure_told: type[BaseException] | None = None
        threading.Thread(target=self._loop, name=f"hook {name}", daemon=True).start()

    @property
    def is_busy(self) -> bool:
        return bool(self._events) or self._call_began is not None

    def offer(self, event: Any) -> None:
        if len(self._events) >= MOST_WAITING:
            self.calls["dropped"] += 1
            return
        self._events.append(event)
        self._arrived.set()

    def look_for_hang(self) -> None:
        began = self._call_began
        if began is None or self._hung_is_told:
            return
        if time.monotonic() - began > SECONDS_UNTIL_HUNG:
            self._hung_is_told = True
            self.calls["hung"] += 1
            self._tell(
                f"the hook {self._name} of hooks.py has not returned for {SECONDS_UNTIL_HUNG:g} "
                f"seconds; {MOST_WAITING} events wait for it, more are dropped"
            )

    def _loop(self) -> None:
        while True:
            self._arrived.wait()
            self._arrived.clear()
            while self._events:
                self._call_began = time.monotonic()
                self._call(self._events.popleft())
                self._call_began, self._hung_is_told = None, False

    def _call(self, event: Any) -> None:
        try:
            self._function(event)
        except BaseException as error:  # noqa: BLE001 - nothing a hook does may stop the service
            self.calls["failed"] += 1
            if type(error) is not self._failure_told:  # the same one again and again is counted
                self._failure_told = type(error)
                self._tell(f"the hook {self._name} of hooks.py raised {type(error).__name__}")
        else:
            self.calls["ok"] += 1
            self._failure_told = None


def load_hooks(root: Path, tell: Tell) -> Hooks:
    """Load `hooks.py` of a repository; without it there are no hooks.

    Raises:
        HooksError: it cannot be imported, or defines a hook that does not exist.
    """
    path = root / "hooks.py"
    if not path.is_file():
        return Hooks({}, tell)
    spec = importlib.util.spec_from_file_location("model_service_hooks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise HooksError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    found = {name: f for name, f in vars(module).items() if name.startswith("on_") and callable(f)}
    for name in found:
        if name not in HOOKS:
            raise HooksError(f"{path} defines {name}, which is no hook. Hooks: {', '.join(HOOKS)}.")
    return Hooks(found, tell)
