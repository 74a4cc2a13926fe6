"""Who called the stub: the evidence that a consumer has integrated, in a file of `handoff/`.

A caller says who it is in the header `x-service-name`. Workers of one service share the file: each
adds what it counted since it last wrote.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from pathlib import Path

import msgspec

from model_service.files import write_atomically
from model_service.repository import Repository

CALLER_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
MOST_CALLERS = 200
UNNAMED = "unnamed"
"""Stands for callers without a name, with one that is no name, and those beyond the most."""


class Caller(msgspec.Struct):
    """What one caller asked. Times are in RFC 3339; `models` counts requests by model, `statuses`
    by what was answered: whoever has met 422 has seen an error path."""

    first: str = ""
    last: str = ""
    requests: int = 0
    models: dict[str, int] = {}
    statuses: dict[str, int] = {}
    last_request_id: str = ""

    def add(self, later: Caller) -> None:
        """Take over what was counted later."""
        self.first = self.first or later.first
        self.last = later.last
        self.requests += later.requests
        self.last_request_id = later.last_request_id
        for mine, theirs in ((self.models, later.models), (self.statuses, later.statuses)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count


def callers_file(repository: Repository) -> Path:
    """Return where the evidence is kept."""
    return repository.root / "handoff" / "evidence" / "stub-callers.json"


def read_callers(path: Path) -> dict[str, Caller]:
    """Return every caller by its name; none if nobody called.

    Raises:
        OSError: the file cannot be read.
        msgspec.MsgspecError: the file is not what the stub writes.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Caller])
    except FileNotFoundError:
        return {}


class StubCallers:
    """Counts in memory; `write` adds what was counted to the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counting = threading.Lock()
        self._counted: dict[str, Caller] = {}

    def count(self, name: str, model: str, status: int, request_id: str) -> None:
        """Count one request for a model of this service."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        one = Caller(now, now, 1, {model: 1}, {str(status): 1}, request_id)
        with self._counting:
            _add(self._counted, name if CALLER_NAME.match(name) else UNNAMED, one)

    def write(self) -> None:
        """Add what was counted since the last call to the file; both the old and the new are whole.

        Raises:
            OSError: the file cannot be written; nothing that was counted is lost.
            msgspec.MsgspecError: the file is not what the stub writes.
        """
        with self._counting:
            counted, self._counted = self._counted, {}
        if not counted:
            return
        try:
            self._add_to_file(counted)
        except BaseException:
            with self._counting:
                later, self._counted = self._counted, counted
                for name, caller in later.items():
                    _add(self._counted, name, caller)
            raise

    def _add_to_file(self, counted: dict[str, Caller]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.parent, os.O_RDONLY)  # the folder, so that no file is left over
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            callers = read_callers(self._path)
            for name, caller in counted.items():
                _add(callers, name, caller)
            encoded = msgspec.json.encode(callers, order="sorted")
            write_atomically(self._path, msgspec.json.format(encoded, indent=2) + b"\n")
        finally:
            os.close(lock)


def _add(callers: dict[str, Caller], name: str, later: Caller) -> None:
    if name not in callers and len(callers) >= MOST_CALLERS:
        name = UNNAMED
    callers.setdefault(name, Caller()).add(later)
