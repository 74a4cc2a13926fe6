"""The checklist as data: what must hold, who sees to it, and from when it is required."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
import yaml

Team = Literal["data-science", "backend", "devops", "product"]
Kind = Literal["auto", "both", "sign-off"]
Level = Literal["A", "B", "C"]
TEAM_NAMES: dict[Team, str] = {
    "data-science": "Data science",
    "backend": "Backend",
    "devops": "DevOps",
    "product": "Product",
}


class UnknownItemError(Exception):
    """An id that is none of the checklist's."""


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item. `auto` is proven by a machine, `sign-off` by signatures, `both` by both.

    It is required of services of its `level` and of stricter ones (A is the strictest), from
    `weeks` before the launch. `days` is how long evidence given by people stays fresh; None for
    as long as the bytes stay the same. `slow` items are left out of a quick check.
    """

    id: str
    group: str
    title: str
    team: Team
    kind: Kind
    level: Level
    weeks: int
    lessons: str = ""
    signers: tuple[Team, ...] = ()
    signs: tuple[str, ...] = ()
    days: int | None = None
    slow: bool = False

    def is_asked_of(self, level: Level) -> bool:
        """Whether a service of this level must meet the item."""
        return level <= self.level

    def due(self, launch: dt.date | None) -> dt.date | None:
        """Return the day from which the item is required; None without a day of launch."""
        return launch - dt.timedelta(weeks=self.weeks) if launch else None


@cache
def checklist() -> tuple[Item, ...]:
    """Return every item, group by group."""
    text = Path(__file__).with_name("items.yaml").read_text(encoding="utf-8")
    return tuple(
        msgspec.convert({"id": id_, "group": group, **fields}, Item)
        for group, items in yaml.safe_load(text).items()
        for id_, fields in items.items()
    )


def items_of(ids: tuple[str, ...] | list[str]) -> tuple[Item, ...]:
    """Return these items, in the order of the checklist; all of them if none is named.

    Raises:
        UnknownItemError: there is no such item.
    """
    wanted = {id_.upper() for id_ in ids}
    unknown = sorted(wanted - {item.id for item in checklist()})
    if unknown:
        raise UnknownItemError(
            f"{unknown[0]} is no item. Items: {', '.join(item.id for item in checklist())}."
        )
    return tuple(item for item in checklist() if not wanted or item.id in wanted)
