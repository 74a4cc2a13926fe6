"""A day has hours and a week has days: what is usual for them is no drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_service.contract.reading import parse_contract
from model_service.contract.rows import RowReader
from model_service.drift.counts import Counter, Counts
from model_service.drift.profiling import Answers, Times, profile_of
from model_service.drift.rule import Levels, examine

CONTRACT = parse_contract(
    """\
name: shop
contract_version: "1.0"
description: What a basket is worth.
features:
  items: {type: number}
  channel: {type: category, categories: [app, counter], on_missing: pass}
output: {name: worth, type: number, meaning: What is paid.}
""",
    Path("contract.yaml"),
    model="shop",
)
HOUR = 3600.0
MONDAY = 1_767_571_200.0  # 2026-01-05 00:00 UTC
LEVELS = Levels.for_budget(0.1, 720, 10)


class Shop:
    """Sells more at night, and through the app at weekends."""

    def __init__(self, *, by_time: bool) -> None:
        self.chance = np.random.default_rng(6)
        self.reader = RowReader(CONTRACT)
        seconds = MONDAY - self.chance.uniform(0, 56 * 24 * HOUR, 40_000)
        read = self.reader.read_rows(self.rows(seconds))
        times = Times(seconds) if by_time else None
        self.reference = profile_of(CONTRACT, read, Answers([1.0, 2.0]), times)
        self.counter = Counter(CONTRACT, self.reference)

    def rows(self, seconds: np.ndarray, more: float = 0.0) -> list[dict[str, object]]:
        hours, days = seconds / HOUR % 24, np.floor((seconds - MONDAY) / 24 / HOUR) % 7
        items = self.chance.normal(10 + 3 * np.cos(hours / 24 * 2 * np.pi) + more, 2)
        app = self.chance.random(len(seconds)) < np.where(days >= 5, 0.8, 0.3)
        return [
            {"items": float(number), "channel": "app" if apped else "counter"}
            for number, apped in zip(items, app, strict=True)
        ]

    def hour(self, number: int, more: float = 0.0) -> Counts:
        seconds = MONDAY + self.chance.uniform(number, number + 1, 500) * HOUR
        read = self.reader.read_rows(self.rows(seconds, more))
        none = Answers([None] * 500)
        return self.counter.count(read.values, [()] * 500, none, at=seconds)

    def alarms(self, hours: list[int], more: float = 0.0) -> set[str]:
        history = [self.hour(number, more) for number in hours]
        found = examine(self.reference, history, LEVELS)
        return {each.feature for each in found if each.alarms}


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(by_time=True)


def test_a_week_like_those_of_training_raises_no_alarm(shop: Shop) -> None:
    assert shop.reference.time is not None
    history = [shop.hour(number) for number in range(24 * 7)]
    for end in range(1, len(history) + 1):
        found = examine(shop.reference, history[max(0, end - 16) : end], LEVELS)
        assert not [(end, each) for each in found if each.alarms]


def test_without_the_times_of_training_the_night_would_be_an_alarm() -> None:
    assert Shop(by_time=False).alarms([1]) == {"items", "channel"}


def test_a_change_that_is_no_rhythm_is_still_found(shop: Shop) -> None:
    assert shop.alarms([12, 13], more=1.0) == {"items"}
    assert shop.alarms([24 * 5 + 1], more=1.0) == {"items"}
