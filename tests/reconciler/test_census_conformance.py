"""What the records say of sessions, on the twin and on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker import memory_census, streams_census
from allocator.broker.broker import BrokerUnavailable, Condemned
from allocator.broker.census import (
    ORPHANS_KEPT_MAX,
    ORPHANS_KEPT_MS,
    Census,
    Orphan,
    OrphanKind,
    Sighting,
    Standing,
    Tally,
)
from allocator.broker.memory_census import MemoryCensus
from allocator.broker.steps import Steps
from allocator.broker.streams_census import StreamsCensus

if TYPE_CHECKING:
    from tests.broker.conftest import House, StreamsHouse, TwinHouse

EMPTY = Tally({OrphanKind.UNEXPLAINED: 0, OrphanKind.SUPERSEDED: 0}, 0)


def census_of(house: Any, worker: str = "w-1") -> Census:
    if hasattr(house, "store"):
        return MemoryCensus(house.store)
    return StreamsCensus(Steps(house.connection, house.broker().prepare), house.keys, worker=worker)


async def standing(house: Any, session_id: str = "s-1", request_id: str | None = "m-1") -> Standing:
    (found,) = await census_of(house).standings([Sighting("gameye", session_id, request_id)])
    return found


async def condemn(house: Any, broker: Any, *session_ids: str, request_id: str = "c-1") -> None:
    """What the next generation does to the one before; first looked at a second later."""
    hold = await house.held(broker, request_id)
    await broker.next_generation(hold, [Condemned("gameye", each, "start answered 504") for each in session_ids])


def orphan(number: int = 1, kind: OrphanKind = OrphanKind.UNEXPLAINED) -> Orphan:
    return Orphan("gameye", f"s-{number}", "europe", "m-1", kind, 1_700_000_000_000)


class Promises:
    async def test_a_session_stands_as_its_requests_record_says(self, house: House) -> None:
        broker = await house.prepared()
        assert await standing(house) is Standing.NO_RECORD
        assert await standing(house, request_id=None) is Standing.NO_RECORD
        hold = await house.held(broker)
        assert await standing(house) is Standing.UNDER_WAY
        await broker.commit(house.good_end(hold))
        assert await standing(house) is Standing.IN_PLAY
        assert await standing(house, "s-2") is Standing.OTHERWISE
        assert await standing(house, "s-1", "m-2") is Standing.NO_RECORD

    async def test_a_request_that_ended_badly_explains_no_session(self, house: House) -> None:
        broker = await house.prepared()
        await broker.commit(house.bad_end(await house.held(broker)))
        assert await standing(house) is Standing.OTHERWISE

    async def test_the_condemned_are_known_whatever_became_of_their_request(self, house: House) -> None:
        broker = await house.prepared()
        await condemn(house, broker, "s-1", request_id="m-1")
        assert await standing(house) is Standing.CONDEMNED
        assert await standing(house, request_id="m-9") is Standing.CONDEMNED
        assert await standing(house, "s-2") is Standing.UNDER_WAY

    async def test_a_session_that_an_answer_names_is_in_play_even_where_its_record_is_gone(self, house: Any) -> None:
        broker = await house.prepared()
        await broker.commit(house.good_end(await house.held(broker)))
        if hasattr(house, "store"):
            del house.store.records["m-1"]
        else:
            await house.connection.execute("DEL", house.keys.record("m-1"))
        assert await standing(house) is Standing.IN_PLAY
        assert await standing(house, "s-2") is Standing.NO_RECORD

    async def test_a_long_list_is_judged_in_its_order(self, house: House) -> None:
        broker = await house.prepared()
        await broker.commit(house.good_end(await house.held(broker)))
        seen = [Sighting("gameye", f"s-{number}", "m-1") for number in range(600)]
        found = await census_of(house).standings(seen)
        assert [number for number, each in enumerate(found) if each is Standing.IN_PLAY] == [1]
        assert await census_of(house).standings([]) == []

    async def test_a_snapshot_says_what_is_under_way_and_condemned_and_whose_the_namespace_is(
        self, house: House
    ) -> None:
        census = census_of(house)
        assert (await census.snapshot()).deployment is None
        broker = await house.prepared()
        await condemn(house, broker, "s-1")
        found = await census.snapshot()
        assert (found.deployment, found.loss_ms) == ("d", 0)
        assert found.under_way == {"c-1"}
        assert found.condemned == {("gameye", "s-1")}
        assert found.now_ms == pytest.approx(broker.now_ms(), abs=1000)

    async def test_the_turn_is_one_workers_until_it_ends(self, house: House) -> None:
        first, second = census_of(house, "w-1"), census_of(house, "w-2")
        assert await first.turn(60)
        assert not await second.turn(60)
        assert not await first.turn(60)
        await house.pass_ms(61)
        assert await second.turn(60)

    async def test_the_lead_is_one_workers_for_as_long_as_it_asks(self, house: House) -> None:
        first, second = census_of(house, "w-1"), census_of(house, "w-2")
        assert await first.lead(60)
        assert not await second.lead(60)
        await house.pass_ms(40)
        assert await first.lead(60)
        await house.pass_ms(40)
        assert not await second.lead(60)
        await house.pass_ms(61)
        assert await second.lead(60)
        assert not await first.lead(60)

    async def test_a_stop_is_brought_forward_only_for_what_is_condemned(self, house: House) -> None:
        broker = await house.prepared()
        await condemn(house, broker, "s-1")
        assert await broker.claim_condemned(10, 1000) == []
        assert await census_of(house).hasten("gameye", ["s-1", "s-2"], 30) == 1
        assert [each.session_id for each in await broker.claim_condemned(10, 1000)] == ["s-1"]
        assert await house.condemned() == ["gameye/s-1"]

    async def test_in_any_minute_no_more_stops_are_brought_forward_than_allowed(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (memory_census, streams_census):
            monkeypatch.setattr(module, "STOPS_WINDOW_MS", 150)
        names = [f"s-{number}" for number in range(5)]
        broker = await house.prepared()
        await condemn(house, broker, *names)
        one, other = census_of(house, "w-1"), census_of(house, "w-2")
        assert await one.hasten("gameye", names, 2) == 2
        assert await other.hasten("gameye", names[2:], 2) == 0
        assert sorted(each.session_id for each in await broker.claim_condemned(10, 0)) == names[:2]
        for each in names[:2]:
            await broker.recheck(Condemned("gameye", each, ""), None)
        await house.pass_ms(160)
        assert await other.hasten("gameye", names, 2) == 2
        assert sorted(each.session_id for each in await broker.claim_condemned(10, 0)) == names[2:4]

    async def test_one_that_is_still_alive_takes_no_second_place_in_its_minute(self, house: House) -> None:
        broker = await house.prepared()
        await condemn(house, broker, "s-1", "s-2")
        census = census_of(house)
        assert await census.hasten("gameye", ["s-1"], 1) == 1
        assert await census.hasten("gameye", ["s-1", "s-2"], 1) == 1

    async def test_what_a_pass_found_takes_the_place_of_what_the_one_before_found(self, house: House) -> None:
        census = census_of(house)
        assert await census.tally("gameye") is None
        first = Tally({OrphanKind.UNEXPLAINED: 2, OrphanKind.SUPERSEDED: 1}, 3)
        await census.keep("gameye", first, [orphan(1), orphan(2), orphan(3, OrphanKind.SUPERSEDED)])
        await census.keep("edgegap", EMPTY, [])
        assert await census_of(house, "w-2").tally("gameye") == first
        assert await census.tally("edgegap") == EMPTY
        await census.keep("gameye", EMPTY, [])
        assert await census.tally("gameye") == EMPTY


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: TwinHouse) -> TwinHouse:
        return twin


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: StreamsHouse) -> StreamsHouse:
        return streams


async def test_what_is_no_hash_explains_nothing_and_harms_no_neighbour(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    await broker.commit(streams.good_end(await streams.held(broker)))
    await streams.connection.execute("SET", streams.keys.record("m-2"), "x")
    await streams.connection.execute("SET", streams.keys.allocation("m-3"), "x")
    seen = [Sighting("gameye", "s-1", f"m-{number}") for number in (2, 3, 1)]
    found = await census_of(streams).standings(seen)
    assert found == [Standing.NO_RECORD, Standing.NO_RECORD, Standing.IN_PLAY]


async def test_what_a_pass_found_is_bounded_and_ages_out(streams: StreamsHouse) -> None:
    many = 2 * ORPHANS_KEPT_MAX
    tally = Tally({OrphanKind.UNEXPLAINED: many, OrphanKind.SUPERSEDED: 0}, 0)
    await census_of(streams).keep("gameye", tally, [orphan(number) for number in range(many)])
    key = streams.keys.orphans("gameye")
    assert await streams.connection.execute("HLEN", key) == ORPHANS_KEPT_MAX + 1
    assert 0 < await streams.connection.execute("PTTL", key) <= ORPHANS_KEPT_MS
    assert await census_of(streams).tally("gameye") == tally


async def test_the_twin_forgets_what_aged_out(twin: TwinHouse) -> None:
    census = census_of(twin)
    await census.keep("gameye", EMPTY, [])
    await twin.pass_ms(ORPHANS_KEPT_MS)
    assert await census.tally("gameye") is None


async def test_a_store_that_is_away_says_so(twin: TwinHouse) -> None:
    twin.store.away = True
    census = census_of(twin)
    for ask in (census.turn(1), census.lead(1), census.snapshot(), census.standings([])):
        with pytest.raises(BrokerUnavailable):
            await ask
