"""What is counted, that it adds up exactly, and what a profile keeps to itself."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from model_service.drift.binning import NO_VALUE, FeatureCounter, bins_of, codes_of, size_of
from model_service.drift.counts import Counter, Counts, merge
from model_service.registry.profile import (
    ProfileMismatchError,
    TimeBlocks,
    output_names,
    read_profile,
    write_profile,
)
from tests.platform.drift.watched_rows import World, contract

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def world() -> World:
    return World(size=600)


def test_counts_of_parts_add_up_to_the_counts_of_all(world: World) -> None:
    window = world.window(200)
    window[3]["weight"] = -1.0
    parts = [world.count(window[:1]), world.count(window[1:90]), world.count(window[90:])]
    whole, again = merge(parts), world.count(window)
    for name in ("prediction", "score"):  # answers are drawn anew for each count
        whole.features.pop(name)
        again.features.pop(name)
    assert whole == again
    assert (whole.rows, whole.refused) == (200, 1)
    assert parts[1].rows == 89, "adding up leaves the parts as they are"


def test_a_row_is_of_the_hour_that_its_feature_says_or_else_of_its_answer(world: World) -> None:
    row = world.window(1)[0] | {"since": "2026-01-03T05:10:00Z"}  # a Saturday
    read = world.reader.read_rows([row])
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC).timestamp()  # a Thursday
    for feature, block in (("since", 24 + 5), (None, 12)):
        times = TimeBlocks(1, (300,) * 48, feature)
        counter = Counter(world.contract, msgspec.structs.replace(world.reference, time=times))
        counted = counter.count(read.values, [()], world.answers(1), at=noon)
        assert counted.blocks == {block: 1}


def test_counts_survive_their_bytes(world: World) -> None:
    counts = world.count(world.window(50))
    counts.blocks = {3: 20, 4: 30}
    assert Counts.decode(counts.encode()) == counts


def test_a_value_is_in_a_bin_or_counted_apart_and_never_both(world: World) -> None:
    window = world.window(10)
    window[0]["income"] = None
    window[1]["income"] = 1e9
    window[2]["age"] = 200
    window[3]["weight"] = 5000.0
    for row in window[4:]:
        row["income"] = 25.0
    counts = world.count(window)
    income, age, weight = (counts.features[name] for name in ("income", "age", "weight"))
    assert (income.missing, income.unseen) == (1, 1)
    assert age.out_of_range == 1
    assert weight.out_of_range == 1, "a refused row says what it was refused for"
    for name, feature in counts.features.items():
        apart = feature.missing + feature.unseen + feature.out_of_range
        if name != "since":
            answered = 10 if name == "weight" else 9
            assert sum(feature.bins) + apart == answered, name


def test_a_number_that_many_rows_have_gets_a_bin_alone() -> None:
    chance = np.random.default_rng(0)
    numbers = [0.0] * 400 + chance.normal(0, 5, 600).tolist()
    bins = bins_of("number", numbers)
    codes = codes_of(bins, [-1e-9, 0.0, 1e-9])
    assert len(set(codes.tolist())) == 3
    rare = bins_of("number", [1.0] * 990 + [0.0] * 10)
    assert codes_of(rare, [0.0, 1.0]).tolist() == [0, 1]


def test_what_one_row_alone_has_is_what_new_rows_may_bring() -> None:
    names = [f"street {i % 100}" for i in range(1000)] + [f"lane {i}" for i in range(7)]
    assert bins_of("text", names).counts.unseen == 7
    assert bins_of("number", [float(i) for i in range(50)]).counts.unseen == 1
    assert bins_of("number", [1.0, 1.0, 2.0, 3.0, 3.0]).counts.unseen == 0


def test_a_number_is_far_that_is_beyond_training_by_more_than_its_whole_range() -> None:
    bins = bins_of("number", [10.0, 12.0, 20.0])
    counts = FeatureCounter(bins).count([15.0, 20.1, 30.0, 30.1, 0.0, -0.1])
    assert (counts.unseen, counts.far) == (5, 2)
    whole = merge([Counts(6, 0, {"a": counts}), Counts(6, 0, {"a": counts})])
    assert whole.features["a"].far == 4
    constant = bins_of("number", [3.0] * 10)
    assert FeatureCounter(constant).count([1e9]).far == 0, "nobody knows how it varies"


@pytest.mark.parametrize("seed", range(20))
def test_what_is_counted_together_is_what_each_value_is_coded_as(seed: int) -> None:
    chance = np.random.default_rng(seed)
    grid = chance.choice([0.1, 0.5, 1.0, 3.0])  # with ties, and values upon the ends of bins
    seen = (chance.normal(size=300) // grid * grid).tolist()
    fresh = [*(chance.normal(0, 4, 300) // grid * grid).tolist(), None, *seen[:9]]
    names = [f"{number:.0f}" for number in seen]
    for bins, cells in (
        (bins_of("number", seen), fresh),
        (bins_of("number", seen, sensitive=True), fresh),
        (bins_of("text", names), [None, "", *(f"{number or 0:.0f}" for number in fresh)]),
        (bins_of("length", names, sensitive=True), [None, *names, "a long one"]),
    ):
        without = chance.choice(len(cells), 20, replace=False).tolist()
        codes = codes_of(bins, cells)
        codes[without] = NO_VALUE
        *expected, unseen, far = np.bincount(codes + 1, minlength=size_of(bins) + 3)[1:].tolist()
        counted = FeatureCounter(bins).count(cells, without)
        assert (counted.bins, counted.unseen, counted.far) == (expected, unseen + far, far)


def test_a_moment_in_time_is_only_watched_for_being_there(world: World) -> None:
    assert world.count(world.window(5)).features["since"].bins == []


def test_a_profile_keeps_no_value_of_a_sensitive_feature(world: World, tmp_path: Path) -> None:
    write_profile(tmp_path, world.reference)
    assert b"xxxxx" not in (tmp_path / "profile.json").read_bytes()
    assert world.reference.features["street"].low is None
    assert read_profile(tmp_path) == world.reference


def test_a_profile_of_a_later_format_is_a_mismatch(world: World, tmp_path: Path) -> None:
    write_profile(tmp_path, msgspec.structs.replace(world.reference, format=3))
    with pytest.raises(ProfileMismatchError, match="has format 3, and 2 is counted here"):
        read_profile(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b'{"rows": 5, "features": {}, "output": {"missing": 0, "unseen": 0, "counts": [5]}}',
        b"{",
        None,
    ],
    ids=["older", "broken", "not there"],
)
def test_another_profile_is_a_mismatch_and_never_a_crash(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "profile.json").write_bytes(content)
    with pytest.raises(ProfileMismatchError, match=r"profile mismatch.*train the model again"):
        read_profile(tmp_path)


def test_the_output_never_takes_the_name_of_a_feature() -> None:
    plain = contract()
    renamed = msgspec.structs.replace(plain.features[0], name="prediction")
    assert output_names(plain) == ("prediction", "score")
    assert output_names(msgspec.structs.replace(plain, features=(renamed,))) == (
        "prediction_",
        "score",
    )
