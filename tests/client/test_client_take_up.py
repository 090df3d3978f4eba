"""Taking up: when it returns, what it says, and that a refusal of the own entry alone is one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from allocator.client import AllocatorClient, InvalidRequestError, Priority, Receipt, RefusedError
from allocator.client.listener import Listener
from allocator.contract.allocation import Allocation, State
from allocator.contract.codes import Code
from allocator.redis_io.errors import Unavailable

if TYPE_CHECKING:
    from tests.client.conftest import Workers
    from tests.conftest import WaitUntil

REQUEST = {"id": "m-1", "image": "my-game"}


async def sent(workers: Workers, wait_until: WaitUntil, count: int = 1) -> list[str]:
    """The entry ids once so many requests have come."""

    async def come() -> bool:
        return len(await workers.entries()) >= count

    await wait_until(come)
    return [entry_id for entry_id, _ in await workers.entries()]


async def test_it_returns_once_the_entry_is_settled(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    taking = asyncio.create_task(client.take_up(REQUEST))
    (entry_id,) = await sent(workers, wait_until)
    assert not taking.done()
    await workers.settle(entry_id)
    assert await taking == Receipt("m-1", entry_id, known=False, taken=True)


async def test_what_nobody_takes_up_in_time_is_sent_and_says_so(client: AllocatorClient, workers: Workers) -> None:
    receipt = await client.take_up(REQUEST, Priority.NORMAL, 0.05)
    ((entry_id, _),) = await workers.entries()
    assert receipt == Receipt("m-1", entry_id, known=False, taken=False)


async def test_a_refusal_of_a_new_id_is_raised_with_when_to_come_again(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    taking = asyncio.create_task(client.take_up(REQUEST))
    (entry_id,) = await sent(workers, wait_until)
    await workers.refuse("m-1", entry_id, Code.OVERLOADED, retry_after_ms=1500)
    with pytest.raises(RefusedError) as refused:
        await taking
    assert (refused.value.code, refused.value.retry_after_ms) == ("overloaded", 1500)


async def test_of_two_that_send_one_id_each_hears_of_its_own_entry_alone(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    good = asyncio.create_task(client.take_up(REQUEST))
    await sent(workers, wait_until)
    bad = asyncio.create_task(client.take_up({**REQUEST, "image": "other"}))
    first, second = await sent(workers, wait_until, 2)
    await workers.refuse("m-1", second)
    await workers.settle(first)
    with pytest.raises(RefusedError, match="id_conflict"):
        await bad
    assert await good == Receipt("m-1", first, known=False, taken=True)


async def test_an_id_that_has_ended_is_known_and_taken_again(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    await workers.end(Allocation(state=State.ALLOCATED, final=True, request_id="m-1"))
    taking = asyncio.create_task(client.take_up(REQUEST))
    (entry_id,) = await sent(workers, wait_until)
    await workers.settle(entry_id)
    assert await taking == Receipt("m-1", entry_id, known=True, taken=True)


async def test_a_redis_that_is_away_for_a_moment_does_not_end_it(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, clear = 0, Listener._clear_doubts

    async def away_at_first(listener: Listener, request_ids: list[str]) -> None:
        nonlocal looks
        looks += 1
        if looks <= 3:
            raise Unavailable("away", kind="connection")
        await clear(listener, request_ids)

    monkeypatch.setattr(Listener, "_clear_doubts", away_at_first)
    taking = asyncio.create_task(client.take_up(REQUEST))
    (entry_id,) = await sent(workers, wait_until)
    await workers.settle(entry_id)
    assert (await taking).taken
    assert looks > 3


async def test_an_invalid_request_is_not_sent(client: AllocatorClient, workers: Workers) -> None:
    with pytest.raises(InvalidRequestError, match="image"):
        await client.take_up({"id": "m-1"})
    assert await workers.entries() == []
