"""The twin alone: it waits on the loop's clock, ages as Redis does, and can be away or full."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from allocator.broker.broker import BrokerFull, BrokerUnavailable, Ended, Hold
from allocator.contract.request import Priority

if TYPE_CHECKING:
    from tests.broker.conftest import TwinHouse
    from tests.conftest import RunVirtually


def test_wait_gives_up_after_two_seconds_of_the_loops_clock(twin: TwinHouse, run_virtually: RunVirtually) -> None:
    async def story() -> None:
        broker = await twin.prepared()
        assert await broker.wait(10) == []
        assert asyncio.get_running_loop().time() == pytest.approx(2.0)

    run_virtually(story)


async def test_a_wait_that_was_broken_off_takes_nothing_along(twin: TwinHouse) -> None:
    broker = await twin.prepared()
    waiting = asyncio.ensure_future(broker.wait(10))
    await asyncio.sleep(0)  # it waits
    waiting.cancel()
    await asyncio.wait([waiting])
    await twin.add(b"1")
    assert len(await broker.take(10, list(Priority))) == 1


async def test_an_end_ages_out_and_its_id_is_new_again(twin: TwinHouse) -> None:
    broker = await twin.prepared()
    hold = await twin.held(broker)
    await broker.commit(twin.good_end(hold, keep_ms=1000))
    await twin.pass_ms(999)
    assert isinstance((await broker.reserve([twin.ask(await twin.taken(broker))]))[0], Ended)
    await twin.pass_ms(1)
    assert await twin.allocation("m-1") == {}
    assert isinstance(await twin.held(broker), Hold)
    assert await twin.keeps_ms("m-1") is None


async def test_a_store_that_is_away_is_a_broker_that_is_unavailable(twin: TwinHouse) -> None:
    broker = await twin.prepared()
    hold = await twin.held(broker)
    waiting = asyncio.ensure_future(broker.wait(1))
    await asyncio.sleep(0)  # it waits
    twin.store.away = True
    twin.store.wake()
    for step in (waiting, broker.take(1, list(Priority)), broker.commit(twin.good_end(hold)), broker.survey()):
        with pytest.raises(BrokerUnavailable):
            await step
    twin.store.away = False
    assert await broker.renew([hold]) == [True]


async def test_a_full_store_refuses_new_requests_alone(twin: TwinHouse) -> None:
    broker = await twin.prepared()
    hold, entry = await twin.held(broker), await twin.taken(broker)
    twin.store.full = True
    with pytest.raises(BrokerFull):
        await broker.reserve([twin.ask(entry, "m-2")])
    await broker.commit(twin.good_end(hold))
    twin.store.full = False
    assert isinstance((await broker.reserve([twin.ask(entry, "m-2")]))[0], Hold)
