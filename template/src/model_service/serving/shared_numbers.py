"""The numbers that a process counts, and their sums over all workers of a service.

Each of several workers holds one slot of a folder: a file of cells that is mapped into its memory,
and a file that says whose cells they are. Any worker reads the slots of all. One that is killed
leaves its slot as it was at its last count, because the kernel keeps what was mapped; the worker
that replaces it takes the slot over and goes on counting there. So nothing is lost, nothing is
counted twice, and nothing has to be written from time to time.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

Row: TypeAlias = "list[float] | memoryview[float]"
Key: TypeAlias = tuple[str, tuple[str, ...]]
"""The name of a family, and the values of its labels."""
CELL_BYTES = 8
SLOT_BYTES = 4 * 1024 * 1024
"""Room for half a million numbers; only what was counted takes memory."""


class Numbers(Protocol):
    """Rows of numbers by their key. Adding to a row is all that counting costs."""

    def row(self, key: Key, width: int) -> Row:
        """Return the row of a key, with zeros at first; always the same one."""

    def totals(self) -> Mapping[Key, Sequence[float]]:
        """Return every row, each the sum over all workers."""

    def workers(self) -> int:
        """Return how many processes count now."""


class OwnNumbers:
    """The numbers of a process that answers alone."""

    def __init__(self) -> None:
        self._rows: dict[Key, Row] = {}
        self._adding = threading.Lock()

    def row(self, key: Key, width: int) -> Row:
        """Return the row of a key."""
        with self._adding:
            return self._rows.setdefault(key, [0.0] * width)

    def totals(self) -> Mapping[Key, Sequence[float]]:
        """Return every row."""
        return self._rows.copy()

    def workers(self) -> int:
        """Return 1."""
        return 1


class SharedNumbers:
    """The numbers of one of several workers, in the first slot of `folder` that nobody holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._adding = threading.Lock()
        self._slot, self._file = _take_slot(folder)
        os.ftruncate(self._file, SLOT_BYTES)
        self._cells = memoryview(mmap.mmap(self._file, SLOT_BYTES)).cast("d")
        self._places = _places(self._slot)
        self._used = max((start + width for start, width in self._places.values()), default=0)
        self._list = _list_of(self._slot).open("ab", buffering=0)
        self._rows: dict[Key, Row] = {}

    def row(self, key: Key, width: int) -> Row:
        """Return the row of a key; where the slot is full, one that only this worker knows."""
        with self._adding:
            if key not in self._rows:
                self._rows[key] = self._placed(key, width)
            return self._rows[key]

    def _placed(self, key: Key, width: int) -> Row:
        start, _ = self._places.get(key, (None, width))
        if start is None:
            start = self._used
            if start + width > len(self._cells):
                return [0.0] * width
            # One write, before the first count: a slot never holds a number without a name.
            self._list.write(msgspec.json.encode([key, start, width]) + b"\n")
            self._used += width
        return self._cells[start : start + width]

    def totals(self) -> Mapping[Key, Sequence[float]]:
        """Return every row, each the sum over all slots."""
        totals: dict[Key, Sequence[float]] = {}
        for slot in self._slots():
            for key, row in _counted(slot):
                before = totals.get(key)
                both = row if before is None else [a + b for a, b in zip(before, row, strict=True)]
                totals[key] = both
        return totals

    def workers(self) -> int:
        """Return how many slots are held by a process that lives."""
        return sum(_is_held(slot) for slot in self._slots())

    def _slots(self) -> list[Path]:
        return sorted(self._folder.glob("*.cells"))


def _take_slot(folder: Path) -> tuple[Path, int]:
    number = 0
    while True:
        slot = folder / f"{number}.cells"
        held = os.open(slot, os.O_RDWR | os.O_CREAT, 0o600)
        if _locks(held):
            return slot, held
        os.close(held)
        number += 1


def _locks(descriptor: int) -> bool:
    """Take the lock of a slot, which the kernel gives back when its process ends, however."""
    import fcntl  # several workers are for systems that have it

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_held(slot: Path) -> bool:
    descriptor = os.open(slot, os.O_RDWR)
    try:
        return not _locks(descriptor)
    finally:
        os.close(descriptor)


def _list_of(slot: Path) -> Path:
    return slot.with_suffix(".rows")


def _places(slot: Path) -> dict[Key, tuple[int, int]]:
    """Return where each row of a slot stands; what a killed worker wrote half is cut off."""
    path = _list_of(slot)
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    return {key: (start, width) for key, start, width in _listed(whole)}


def _counted(slot: Path) -> Iterator[tuple[Key, Sequence[float]]]:
    path = _list_of(slot)
    content = path.read_bytes() if path.exists() else b""
    listed = list(_listed(content[: content.rfind(b"\n") + 1]))
    end = max((start + width for _, start, width in listed), default=0)
    with slot.open("rb") as stream:
        cells = memoryview(stream.read(end * CELL_BYTES)).cast("d")
    for key, start, width in listed:
        yield key, cells[start : start + width].tolist()


_line = msgspec.json.Decoder(tuple[Key, int, int])


def _listed(content: bytes) -> list[tuple[Key, int, int]]:
    return _line.decode_lines(content)
