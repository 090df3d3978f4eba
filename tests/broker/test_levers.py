"""The operators' levers, on the twin and on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.broker import BrokerUnavailable
from allocator.broker.levers import LeverBoard, Levers, RegionLever, levers_of
from allocator.broker.memory_levers import MemoryLevers
from allocator.broker.steps import Steps
from allocator.broker.streams_levers import StreamsLevers

if TYPE_CHECKING:
    from tests.broker.conftest import House, StreamsHouse, TwinHouse

NOTHING = Levers()


def board_of(house: Any) -> LeverBoard:
    if hasattr(house, "store"):
        return MemoryLevers(house.store)
    return StreamsLevers(Steps(house.connection, house.broker().prepare), house.keys)


class Promises:
    async def test_without_any_nothing_is_set(self, house: House) -> None:
        assert await board_of(house).read() == NOTHING

    async def test_a_lever_is_seen_by_all_and_stands_until_it_is_undone(self, house: House) -> None:
        mine, yours = board_of(house), board_of(house)
        await mine.pause(None)
        await mine.drain("eu: west", None)
        await mine.set_rate("us-east", 0.1, None)
        regions = {"eu: west": RegionLever(drained=True), "us-east": RegionLever(rate=0.1)}
        assert await yours.read() == Levers(paused=True, regions=regions)
        await yours.resume()
        assert await mine.read() == Levers(regions=regions)
        await yours.resume_region("eu: west")
        await yours.resume_region("us-east")
        await yours.resume_region("never-set")
        assert await mine.read() == NOTHING

    async def test_a_region_may_be_drained_and_have_another_rate_and_one_resume_undoes_both(self, house: House) -> None:
        board = board_of(house)
        await board.drain("europe", None)
        await board.set_rate("europe", 12.5, None)
        assert (await board.read()).regions == {"europe": RegionLever(drained=True, rate=12.5)}
        await board.resume_region("europe")
        assert await board.read() == NOTHING

    async def test_setting_again_takes_the_place_of_what_was_set(self, house: House) -> None:
        board = board_of(house)
        await board.set_rate("europe", 5, 60_000)
        await board.set_rate("europe", 7, None)
        assert (await board.read()).regions == {"europe": RegionLever(rate=7)}

    async def test_an_end_is_told_and_what_has_lapsed_is_gone(self, house: House) -> None:
        board = board_of(house)
        await board.pause(200)
        await board.drain("europe", 60_000)
        await board.set_rate("europe", 5, 200)
        before = await board.read()
        lever = before.regions["europe"]
        assert before.paused_until_ms is not None
        assert lever.drained_until_ms is not None
        assert lever.rate_until_ms is not None
        assert lever.drained_until_ms - before.paused_until_ms == pytest.approx(59_800, abs=20_000)
        await house.pass_ms(220)
        after = await board.read()
        assert (after.paused, after.paused_until_ms) == (False, None)
        assert after.regions == {"europe": RegionLever(drained=True, drained_until_ms=lever.drained_until_ms)}

    async def test_a_flush_undoes_all(self, house: House) -> None:
        await board_of(house).pause(None)
        await house.flush()
        assert await board_of(house).read() == NOTHING


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: TwinHouse) -> House:
        return twin

    async def test_a_store_that_is_away_is_said(self, twin: TwinHouse) -> None:
        twin.store.away = True
        with pytest.raises(BrokerUnavailable):
            await board_of(twin).read()
        with pytest.raises(BrokerUnavailable):
            await board_of(twin).pause(None)


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: StreamsHouse) -> House:
        return streams

    async def test_what_has_lapsed_is_removed_and_an_empty_hash_is_no_key(self, streams: StreamsHouse) -> None:
        board = board_of(streams)
        await board.pause(1)
        await board.drain("europe", None)
        await streams.pass_ms(3)
        await board.read()
        assert await streams.connection.execute("HKEYS", streams.keys.levers) == [b"drained:europe"]
        await board.resume_region("europe")
        assert await streams.connection.execute("EXISTS", streams.keys.levers) == 0

    async def test_a_full_server_can_be_paused(self, streams: StreamsHouse) -> None:
        await streams.connection.execute("CONFIG", "SET", "maxmemory", "1")
        try:
            await board_of(streams).pause(60_000)
            assert (await board_of(streams).read()).paused
        finally:
            await streams.connection.execute("CONFIG", "SET", "maxmemory", "0")

    async def test_a_field_of_another_version_costs_the_known_ones_nothing(self, streams: StreamsHouse) -> None:
        board = board_of(streams)
        await board.drain("europe", None)
        await streams.connection.execute("HSET", streams.keys.levers, "new", "0 x", "paused", "soon", "rate:us", "0 x")
        assert await board.read() == Levers(regions={"europe": RegionLever(drained=True)})


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", ""])
def test_a_rate_that_is_none_is_no_lever(value: str) -> None:
    assert levers_of({"rate:europe": f"0 {value}"}) == NOTHING
