"""When a change is an alarm, and that nothing else is one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from model_service.drift.counts import Counts
from model_service.drift.rule import MATERIAL, Finding, Kind, Levels, examine, windows_per_month
from model_service.registry.profile import (
    PROFILE_FORMAT,
    FeatureCounts,
    FeatureProfile,
    ReferenceProfile,
)
from tests.platform.drift.watched_rows import World

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = Levels.for_budget(0.1, windows_per_month(10_000), tests=40)


def alarms(world: World, *windows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    findings = examine(world.reference, [world.count(window) for window in windows], LEVELS)
    return {(found.feature, found.kind) for found in findings if found.alarms}


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_rows_like_those_of_training_raise_no_alarm(world: World) -> None:
    for size in (200, 800):
        history = [world.count(world.window(size)) for _ in range(20)]
        for end in range(1, len(history) + 1):
            found = examine(world.reference, history[max(0, end - 16) : end], LEVELS)
            assert not [f for f in found if f.alarms]


CHANGES: dict[str, tuple[str, str, Callable[[dict[str, Any]], object]]] = {
    "half a standard deviation": ("weight", "distribution", lambda row: row["weight"] + 5),
    "a unit": ("weight", "unseen", lambda row: row["weight"] * 2.2 + 60),
    "frozen": ("income", "distribution", lambda _: 20.0),
    "missing": ("region", "missing", lambda _: None),
    "a new category": ("region", "unseen", lambda _: "centre"),
    "refused for its range": ("weight", "out_of_range", lambda row: row["weight"] * 1000),
    "refused for its type": ("weight", "unseen", lambda row: str(row["weight"])),
    "clipped": ("age", "out_of_range", lambda row: row["age"] + 100),
    "a rare value turned frequent": ("owner", "distribution", lambda _: True),
    "longer text": ("street", "distribution", lambda row: row["street"] + "y" * 6),
    "another picture": ("picture", "distribution", lambda row: [3.0, *row["picture"][1:]]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_in_one_window_and_named(world: World, name: str) -> None:
    feature, kind, change = CHANGES[name]
    window = world.window()
    part = window[:100] if name in ("missing", "a new category", "clipped") else window
    for row in part:
        row[feature] = change(row)
    found = alarms(world, world.window(), window)
    assert (feature, kind) in found
    assert {feature_ for feature_, _ in found} == {feature}


def halves(known: int, rows: int, more: int, rare: float = 0.5) -> list[Finding]:
    """Hold two like windows, with `more` rows in the first bin, against a reference of two bins.

    The second one holds a share of `rare` there.
    """
    few = round(rare * known)
    profile = FeatureProfile("number", FeatureCounts([known - few, few]), edges=(0.0,))
    nothing = FeatureProfile("none", FeatureCounts([]))
    reference = ReferenceProfile(PROFILE_FORMAT, known, {"a": profile}, nothing)
    first = rows - round(rare * rows) + more
    window = Counts(rows, 0, {"a": FeatureCounts([first, rows - first])})
    found = examine(reference, [window, window], LEVELS)
    return [each for each in found if each.kind == "distribution" and each.effect > 0.05]


def test_two_windows_are_no_second_witness_where_the_training_data_is_smaller() -> None:
    rows = 2000

    def alarmed(known: int) -> list[bool]:
        every = (halves(known, rows, more) for more in range(rows // 2 - 10))
        return [f.alarms for found in every for f in found if LEVELS.strict < f.p <= LEVELS.loose]

    few, many = alarmed(100), alarmed(400_000)
    assert few
    assert not any(few)
    assert LEVELS.loose_at(0) == LEVELS.loose
    assert LEVELS.loose_at(1) == pytest.approx(LEVELS.loose**2)
    assert all(many)


def test_a_smaller_budget_asks_for_more(world: World) -> None:
    often, seldom = (Levels.for_budget(budget, 720, 40) for budget in (10, 0.1))
    assert often.strict > seldom.strict
    assert often.loose > seldom.loose
    window = world.count(world.window(300))
    for each in examine(world.reference, [window], seldom):
        (other,) = (
            f
            for f in examine(world.reference, [window], often)
            if (f.feature, f.kind) == (each.feature, each.kind)
        )
        assert each.noise_limit >= other.noise_limit


def found_of(kind: str, history: list[FeatureCounts]) -> Finding:
    """Hold windows against a reference so large that it has no noise: two bins, half in each."""
    profile = FeatureProfile("number", FeatureCounts([2_000_000, 2_000_000]), edges=(0.0,))
    nothing = FeatureProfile("none", FeatureCounts([]))
    reference = ReferenceProfile(PROFILE_FORMAT, 4_000_000, {"a": profile}, nothing)
    windows = [
        Counts(sum(each.bins) + each.missing + each.unseen + each.out_of_range, 0, {"a": each})
        for each in history
    ]
    return next(each for each in examine(reference, windows, LEVELS) if each.kind == kind)


@pytest.mark.parametrize(("rows", "more", "windows"), [(100, 13, 4), (24, 4, 16)])
def test_a_small_lasting_change_is_found_in_more_windows_together(
    rows: int, more: int, windows: int
) -> None:
    window = FeatureCounts([rows // 2 + more, rows // 2 - more])
    told = [found_of("distribution", [window] * count).alarms for count in range(1, windows + 1)]
    assert told == [False] * (windows - 1) + [True]


@pytest.mark.parametrize("kind", MATERIAL)
def test_a_change_that_does_not_matter_is_no_alarm_however_sure_it_is(kind: Kind) -> None:
    def asked(effect: float) -> Finding:
        moved = round(100_000 * effect)
        if kind == "distribution":
            moved = round(100_000 * math.sqrt(effect / 4))  # PSI is nearly four times its square
            return found_of(kind, [FeatureCounts([50_000 + moved, 50_000 - moved])])
        bins = [50_000, 50_000 - moved]
        return found_of(kind, [msgspec.structs.replace(FeatureCounts(bins), **{kind: moved})])

    small, large = asked(0.9 * MATERIAL[kind]), asked(1.1 * MATERIAL[kind])
    assert small.p < LEVELS.strict / 1000
    assert not small.alarms
    assert large.alarms


def test_a_change_that_was_expected_is_not_looked_at(world: World) -> None:
    window = world.window()
    for row in window:
        row["weight"] += 20
    counts = world.count(window)
    assert any(f.alarms for f in examine(world.reference, [counts], LEVELS))
    assert not [
        f for f in examine(world.reference, [counts], LEVELS, ignored={"weight"}) if f.alarms
    ]


def new_values(known: int, rows: int, new: int, times: int = 1, far: int = 0) -> Finding:
    """Hold windows, each with so many values that none of the reference has, against it."""
    profile = FeatureProfile("number", FeatureCounts([known]), low=0.0, high=1.0)
    nothing = FeatureProfile("none", FeatureCounts([]))
    reference = ReferenceProfile(PROFILE_FORMAT, known, {"a": profile}, nothing)
    window = Counts(rows, 0, {"a": FeatureCounts([rows - new], unseen=new, far=far)})
    found = examine(reference, [window] * times, LEVELS)
    return next(each for each in found if each.kind == "unseen")


@pytest.mark.parametrize(("known", "rows"), [(344, 4), (344, 50), (10_000, 200), (10_000, 5_000)])
def test_what_alarms_is_more_than_its_noise_limit_and_nothing_else_is(
    known: int, rows: int
) -> None:
    found = [new_values(known, rows, new) for new in range(rows + 1)]
    assert any(each.alarms for each in found)
    for each in found:
        is_material = each.effect == each.noise_limit == MATERIAL["unseen"]
        assert each.alarms == (is_material or each.effect > each.noise_limit + 1e-9)


def test_no_alarm_is_below_its_own_noise_limit(world: World) -> None:
    assert new_values(10_000, 200, 2, times=2).alarms  # by two windows, each too little alone
    seen = [new_values(10_000, 200, new, times) for new in range(20) for times in (1, 2, 3, 4)]
    for name, (_, _, change) in CHANGES.items():
        for rows in (4, 20, 100):
            windows = [world.window(rows) for _ in range(3)]
            for row in (row for window in windows[1:] for row in window):
                row[CHANGES[name][0]] = change(row)
            counted = [world.count(window) for window in windows]
            seen += examine(world.reference, counted, LEVELS)
    spiked = halves(10_000, 200, -14, rare=0.03)  # Pearson's chi-square sees more of it than PSI
    assert any(each.alarms for each in spiked)
    seen += spiked
    assert sum(each.alarms for each in seen) > 20
    assert not [each for each in seen if each.alarms and each.effect < each.noise_limit - 1e-9]


def test_one_value_of_two_hundred_alarms_where_it_is_far_and_comes_again() -> None:
    assert not new_values(10_000, 200, 1, times=2).alarms
    assert not new_values(10_000, 200, 1, far=1).alarms
    found = new_values(10_000, 200, 1, times=2, far=1)
    assert found.alarms
    assert found.noise_limit <= found.effect == 1 / 200
