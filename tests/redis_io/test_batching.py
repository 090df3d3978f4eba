"""What the batcher promises to those who submit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from allocator.redis_io.batching import Batcher

if TYPE_CHECKING:
    from tests.conftest import WaitUntil


class Calls:
    """A `run` that doubles, notes its batches and can be held back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.out = 0
        self.out_most = 0

    async def run(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        self.out += 1
        self.out_most = max(self.out, self.out_most)
        await self.gate.wait()
        self.out -= 1
        if 13 in items:
            raise ValueError("13")
        return [item * 2 for item in items]


async def test_one_turn_is_one_call_and_each_gets_its_own_result() -> None:
    calls = Calls()
    batcher = Batcher(calls.run)
    assert await asyncio.gather(*(batcher.submit(item) for item in range(10))) == [item * 2 for item in range(10)]
    assert calls.batches == [list(range(10))]


async def test_a_call_never_carries_more_than_its_most() -> None:
    calls = Calls()
    batcher = Batcher(calls.run, items_max=4)
    assert await asyncio.gather(*(batcher.submit(item) for item in range(10))) == [item * 2 for item in range(10)]
    assert calls.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_what_comes_while_calls_are_out_gathers_for_the_next(wait_until: WaitUntil) -> None:
    calls = Calls()
    calls.gate.clear()
    batcher = Batcher(calls.run, in_flight_max=2)
    futures = []
    for item in range(2):
        futures.append(batcher.submit(item))
        await wait_until(lambda: calls.out == len(futures))
    for item in range(2, 6):
        futures.append(batcher.submit(item))
        await asyncio.sleep(0)  # two turns, in which a call would go out
        await asyncio.sleep(0)
    assert calls.batches == [[0], [1]]
    calls.gate.set()
    assert await asyncio.gather(*futures) == [0, 2, 4, 6, 8, 10]
    assert calls.batches == [[0], [1], [2, 3, 4, 5]]
    assert calls.out_most == 2


async def test_a_lone_item_never_waits_for_company() -> None:
    calls = Calls()
    async with asyncio.timeout(1):
        assert await Batcher(calls.run).submit(1) == 2


async def test_a_call_that_fails_fails_its_own_items_only() -> None:
    calls = Calls()
    batcher = Batcher(calls.run, items_max=2)
    results = await asyncio.gather(*(batcher.submit(item) for item in (1, 2, 13, 4, 5)), return_exceptions=True)
    assert [repr(result) for result in results] == ["2", "4", "ValueError('13')", "ValueError('13')", "10"]


async def test_a_missing_result_is_a_fault_and_never_given_to_another() -> None:
    async def run(items: list[int]) -> Sequence[int]:
        return items[1:]

    batcher = Batcher(run)
    results = await asyncio.gather(*(batcher.submit(item) for item in range(3)), return_exceptions=True)
    assert all(isinstance(result, RuntimeError) for result in results)


async def test_one_who_gives_up_disturbs_nobody(wait_until: WaitUntil) -> None:
    calls = Calls()
    calls.gate.clear()
    batcher = Batcher(calls.run, in_flight_max=1)
    sent, kept = batcher.submit(1), batcher.submit(2)
    await wait_until(lambda: calls.out)
    unsent, later = batcher.submit(3), batcher.submit(4)
    sent.cancel()
    unsent.cancel()
    calls.gate.set()
    assert (await kept, await later) == (4, 8)
    assert calls.batches == [[1, 2], [4]]


async def test_closing_waits_for_what_is_out_and_takes_no_more() -> None:
    calls = Calls()
    calls.gate.clear()
    batcher = Batcher(calls.run, items_max=1, in_flight_max=1)
    futures = [batcher.submit(item) for item in range(3)]
    closing = asyncio.create_task(batcher.aclose())
    await asyncio.sleep(0)  # it has begun to close
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(9)
    assert not closing.done()
    calls.gate.set()
    await closing
    assert [future.result() for future in futures] == [0, 2, 4]
    assert not batcher._calls
    assert not batcher._waiting


async def test_a_call_that_is_cancelled_leaves_nobody_waiting(wait_until: WaitUntil) -> None:
    calls = Calls()
    calls.gate.clear()
    batcher = Batcher(calls.run)
    future = batcher.submit(1)
    await wait_until(lambda: calls.out)
    for call in list(batcher._calls):
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    await batcher.aclose()


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Batcher(Calls().run, items_max=0)
