"""Requests that come together are answered together, and none pays for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_service.registry.traffic import promote
from model_service.serving.batcher import Answers, Batcher, DeadlineError, QueueFullError
from model_service.serving.row_answers import RowAnswer
from tests.platform.serving.server_process import stub_server

Row = tuple[Any, ...]


class Model:
    """Doubles numbers, raises for "poison", and remembers the size of each call."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list[int] = []
        self.seconds = seconds

    def __call__(self, rows: Sequence[Row]) -> list[RowAnswer]:
        self.calls.append(len(rows))
        time.sleep(self.seconds)
        if any(row[0] == "poison" for row in rows):
            raise ValueError("poison")
        return [RowAnswer("id", row[0] * 2) for row in rows]


def batcher_of(model: Any, **settings: Any) -> Batcher:
    given = {
        "runs_inline": True,
        "queue_rows": 100,
        "queue_seconds": 9.0,
        "seconds": 5.0,
        **settings,
    }
    return Batcher(model, **given)


def values_of(answers: Answers) -> list[Any]:
    return [row and row.value for row in answers.rows]


def rows(*values: Any) -> list[Row]:
    return [(value,) for value in values]


def test_requests_of_one_turn_are_one_call_and_each_gets_its_own_rows() -> None:
    model = Model()

    async def scenario() -> Sequence[Answers]:
        batcher = batcher_of(model)
        return await asyncio.gather(
            batcher.submit(rows(1)), batcher.submit(rows(2, 3)), batcher.submit(rows(4))
        )

    answers = asyncio.run(scenario())
    assert model.calls == [4]
    assert [values_of(answer) for answer in answers] == [[2], [4, 6], [8]]


def test_a_request_alone_waits_for_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> Answers:
        batcher = batcher_of(Model())
        monkeypatch.setattr(asyncio.get_running_loop(), "call_at", None)
        return await batcher.submit(rows(1))

    assert values_of(asyncio.run(scenario())) == [2]


@pytest.mark.parametrize("runs_inline", [True, False])
def test_only_the_poisoned_row_fails(runs_inline: bool) -> None:
    model = Model()
    errors: list[BaseException] = []

    async def scenario() -> Sequence[Answers]:
        batcher = batcher_of(model, runs_inline=runs_inline, on_failure=errors.append)
        return await asyncio.gather(
            batcher.submit(rows(0.1)),
            batcher.submit(rows(0.2, "poison", 0.3)),
            batcher.submit(rows(0.4)),
        )

    first, second, third = asyncio.run(scenario())
    assert (values_of(first), first.failures) == ([0.2], {})
    assert (values_of(second), second.failures) == ([0.4, None, 0.6], {1: "ValueError"})
    assert (values_of(third), third.failures) == ([0.8], {})
    assert len(errors) == 1


def test_a_large_batch_that_fails_is_split_outside_the_loop() -> None:
    async def scenario() -> tuple[Answers, float]:
        model = Model(seconds=0.0001)
        batcher = batcher_of(model, queue_rows=10_000)
        submitted = batcher.submit(rows(*["poison"] * 200))
        longest = 0.0
        while not submitted.done():
            started = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - started)
        return submitted.result(), longest

    answers, longest = asyncio.run(scenario())
    assert len(answers.failures) == 200
    assert longest < 0.03


def test_an_answer_for_too_few_rows_is_a_failure() -> None:
    def model(given: Sequence[Row]) -> list[RowAnswer]:
        return [RowAnswer("id", 1)] * (len(given) - 1)

    async def scenario() -> Answers:
        return await batcher_of(model).submit(rows(1, 2))

    assert asyncio.run(scenario()).failures == {0: "ValueError", 1: "ValueError"}


def test_what_arrives_during_a_slow_call_is_the_next_batch() -> None:
    model = Model(seconds=0.05)

    async def scenario() -> Sequence[Answers]:
        batcher = batcher_of(model, runs_inline=False)
        first = batcher.submit(rows(1))
        await asyncio.sleep(0.01)
        others = [batcher.submit(rows(value)) for value in (2, 3, 4)]
        return await asyncio.gather(first, *others)

    answers = asyncio.run(scenario())
    assert model.calls == [1, 3]
    assert [values_of(answer) for answer in answers] == [[2], [4], [6], [8]]


def test_a_model_found_slow_leaves_the_loop_free_from_then_on() -> None:
    async def scenario() -> float:
        batcher = batcher_of(Model(seconds=0.03))
        await batcher.submit(rows(1))
        submitted = batcher.submit(rows(2))
        await asyncio.sleep(0)
        started = time.perf_counter()
        await asyncio.sleep(0)
        held = time.perf_counter() - started
        await submitted
        return held

    assert asyncio.run(scenario()) < 0.02


def test_a_full_queue_refuses_and_takes_again_once_it_is_empty() -> None:
    async def scenario() -> tuple[list[Any], int]:
        batcher = batcher_of(Model(), queue_rows=3)
        taken = batcher.submit(rows(1, 2, 3))
        with pytest.raises(QueueFullError):
            batcher.submit(rows(4))
        await taken
        again = await batcher.submit(rows(5))
        return values_of(again), batcher.rows_held

    assert asyncio.run(scenario()) == ([10], 0)


def test_who_would_wait_too_long_is_refused_and_the_others_are_answered() -> None:
    async def scenario() -> list[Any]:
        batcher = batcher_of(Model(seconds=0.05), runs_inline=False, queue_seconds=0.015)
        await batcher.submit(rows(1))  # a row is known to cost some hundredths of a second now
        running = batcher.submit(rows(2))
        await asyncio.sleep(0)
        waiting = batcher.submit(rows(3, 4))  # before it, none waits
        with pytest.raises(QueueFullError):
            batcher.submit(rows(5))
        answered = [*values_of(await running), *values_of(await waiting)]
        return [*answered, *values_of(await batcher.submit(rows(6)))]

    assert asyncio.run(scenario()) == [4, 6, 8, 12]


def test_large_requests_at_once_are_not_refused_for_what_small_ones_took() -> None:
    async def scenario() -> list[int]:
        batcher = batcher_of(Model(seconds=0.05), runs_inline=False, queue_seconds=0.25)
        await batcher.submit(rows(1))
        large = [batcher.submit(rows(*range(40))) for _ in range(2)]
        return [len((await one).rows) for one in large]

    assert asyncio.run(scenario()) == [40, 40]


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    async def scenario() -> Answers:
        return await batcher_of(Model(), queue_rows=2).submit(rows(1, 2, 3))

    assert values_of(asyncio.run(scenario())) == [2, 4, 6]


def test_a_stuck_model_costs_a_deadline_and_frees_the_rows_that_waited() -> None:
    async def scenario() -> int:
        batcher = batcher_of(Model(seconds=0.4), runs_inline=False, seconds=0.05)
        running = batcher.submit(rows(1))
        await asyncio.sleep(0)
        waiting = batcher.submit(rows(2))
        for future in (running, waiting):
            with pytest.raises(DeadlineError):
                await future
        return batcher.rows_held

    assert asyncio.run(scenario()) == 1


def test_rows_of_a_caller_who_left_are_not_predicted() -> None:
    model = Model()

    async def scenario() -> int:
        batcher = batcher_of(model)
        batcher.submit(rows(1, 2)).cancel()
        await batcher.submit(rows(3))
        return batcher.rows_held

    assert asyncio.run(scenario()) == 0
    assert model.calls == [1]


@pytest.mark.parametrize("inline", [True, False])
def test_without_batching_each_request_is_a_call_of_its_own(inline: bool) -> None:
    model = Model()

    async def scenario() -> tuple[Sequence[Answers], int]:
        batcher = batcher_of(model, runs_inline=inline, batches=False)
        asked = [batcher.submit(rows(1)), batcher.submit(rows(2, 3)), batcher.submit(rows(4))]
        asked[1].cancel()
        return await asyncio.gather(asked[0], asked[2]), batcher.rows_held

    answers, held = asyncio.run(scenario())
    assert model.calls == [1, 1]
    assert [values_of(answer) for answer in answers] == [[2], [8]]
    assert held == 0


def test_a_model_is_taken_out_of_batching_by_its_settings(tmp_path: Path) -> None:
    """A call of version 5 takes half a second, for however many rows."""
    (tmp_path / "models/sums").mkdir(parents=True)
    (tmp_path / "models/sums/model.yaml").write_text("batching: false")
    with stub_server(tmp_path) as server:
        promote(tmp_path / "traffic.yaml", "sums", "5", by="anna")
        deadline = time.monotonic() + 60
        while server.client.get("/v1/models/sums").json()["aliases"]["champion"] != "5":
            assert time.monotonic() < deadline

        def ask(_: int) -> None:
            row = {"a": 1, "b": 2, "how": "well"}
            with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as caller:
                answer = caller.post("/v1/models/sums/predict", json={"rows": [row]})
            assert answer.json()["version"] == "5"

        started = time.monotonic()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask, range(6)))
        assert time.monotonic() - started > 6 * 0.5
