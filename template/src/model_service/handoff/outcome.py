"""What came of an item, and how a proof says so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from model_service.handoff.items import Item, Team

if TYPE_CHECKING:
    from model_service.handoff.subject import Subject

State = Literal["pass", "fail", "stale", "skipped", "waived", "broken"]


class NotProvenError(Exception):
    """A proof that did not succeed; the text is the first line that is not as it should be.

    `team` is who has something to do, where that is not the team that owns the item.
    """

    state: State = "fail"

    def __init__(self, line: str, team: Team | None = None) -> None:
        super().__init__(line)
        self.team = team


class UnmetError(NotProvenError):
    """The item does not hold."""


class StaleError(NotProvenError):
    """It held once: the evidence belongs to other bytes, or is too old."""

    state: State = "stale"


class SkippedError(NotProvenError):
    """It could not be tried here; says what is missing."""

    state: State = "skipped"


class Result(msgspec.Struct, frozen=True):
    """One item, what was found, and whether it is required today.

    `team` has something to do while it is open. `line` is the first thing that is wrong, or the
    evidence of what holds. `broken` means that the proof itself failed, which says nothing of the
    service.
    """

    item: Item
    team: Team
    state: State
    line: str
    due: dt.date | None
    required: bool
    seconds: float = 0.0
    is_beyond_level: bool = False

    @property
    def is_open(self) -> bool:
        """Whether somebody has something to do."""
        return self.state in ("fail", "stale", "broken")


Proof = Callable[["Subject"], str]
PROOFS: dict[str, Proof] = {}


def proves(item: str) -> Callable[[Proof], Proof]:
    """Mark the function that proves an item: it returns its evidence or raises NotProvenError."""

    def mark(proof: Proof) -> Proof:
        PROOFS[item] = proof
        return proof

    return mark
