"""Waivers: items that may be open until a day, because a person said so."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from model_service.files import FileError, read_yaml
from model_service.handoff.items import UnknownItemError, items_of
from model_service.repository import Repository

LONGEST_DAYS = 30
Words = Annotated[str, msgspec.Meta(min_length=3)]


class WaiverError(Exception):
    """`handoff/waivers.yaml` is not understood; says what would be right."""


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item that may be open from `given` until `until`, both days included."""

    item: str
    reason: Words
    by: Words
    given: dt.date
    until: dt.date

    def __post_init__(self) -> None:
        """Refuse a waiver that lasts."""
        if not 0 <= (self.until - self.given).days <= LONGEST_DAYS:
            raise ValueError(f"a waiver ends at most {LONGEST_DAYS} days after it is given")


def read_waivers(repository: Repository) -> dict[str, Waiver]:
    """Read the waivers, by item; of several for one item the last one counts.

    Raises:
        WaiverError: the file is not understood.
    """
    path = repository.root / "handoff" / "waivers.yaml"
    if not path.is_file():
        return {}
    try:
        waivers = msgspec.convert(read_yaml(path) or [], list[Waiver])
        items_of([waiver.item for waiver in waivers])
    except (FileError, msgspec.ValidationError, UnknownItemError) as error:
        raise WaiverError(
            f"{path} is not understood: {error} A waiver has item, reason, by, given and until."
        ) from None
    return {waiver.item.upper(): waiver for waiver in waivers}
