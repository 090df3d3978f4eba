"""What is apart in each car park: a server's full memory, restarts, lost replies and leftovers; the twin's faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.broker import Broker, BrokerFull, BrokerUnavailable, Done, Hold
from allocator.broker.memory_parking import MemoryParking
from allocator.broker.parking import Arrivals, Stay, Want
from allocator.broker.streams import StreamsBroker
from allocator.broker.streams_parking import StreamsParking
from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import Unavailable

if TYPE_CHECKING:
    from tests.broker.conftest import StreamsHouse, TwinHouse
    from tests.conftest import TestServer

EUROPE, US = "gameye/europe", "gameye/us-east"
LEASE_MS = 60_000
LONG_MS = 30_000
ATTEMPTS = (Attempt("europe", "gameye", "europe", Outcome.NO_CAPACITY, 420, 1_700_000_000_000, 12.5, 0.25),)


class Counting:
    """A connection that counts what is sent and, once `lose` is set, says that the reply never came."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self.sent = 0
        self.lose = False

    async def execute(self, *command: Any) -> Any:
        self.sent += 1
        reply = await self._connection.execute(*command)
        if self.lose:
            self.lose = False
            raise Unavailable("the reply was lost")
        return reply


def parking_of(house: StreamsHouse, connection: Any = None, *, lease_ms: int = LEASE_MS) -> StreamsParking:
    apart = house if connection is None else type(house)(connection, house.server, house.keys.namespace)
    broker = apart.broker()
    assert isinstance(broker, StreamsBroker)
    return StreamsParking(
        broker.steps, house.keys, lease_ms=lease_ms, fence=house.fence, loss_ms=broker.loss_ms, now_ms=broker.now_ms
    )


async def parked(house: StreamsHouse, broker: Broker, count: int, *, lots: Sequence[str] = (EUROPE,)) -> list[Hold]:
    """So many requests that wait in these lots, `m-0` first."""
    holds = [await house.held(broker, f"m-{number}", timeout_ms=60_000 + number) for number in range(count)]
    parking, wake_ms = parking_of(house), broker.now_ms() + LONG_MS
    stays = [Stay(hold, tuple(lots), wake_ms, ATTEMPTS, Code.NO_CAPACITY, "full") for hold in holds]
    assert all(await asyncio.gather(*(parking.park(stay) for stay in stays)))
    return holds


def names(arrivals: Arrivals) -> list[str]:
    return [hold.request_id for hold, _ in arrivals.holds]


@pytest.fixture
def keys_without_ttl(keys_without_ttl: tuple[str, ...]) -> tuple[str, ...]:
    """A lot is there while someone stands in it."""
    return (*keys_without_ttl, "internal:parked:*")


@pytest.fixture
async def private(private_server: TestServer, streams_class: type[StreamsHouse]) -> AsyncIterator[StreamsHouse]:
    """A house on a server of this test alone."""
    async with await connect(private_server.url, name="test") as connection:
        yield streams_class(connection, private_server, "private")


async def test_stays_of_one_turn_travel_in_one_round_trip(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    counting = Counting(streams.connection)
    parking = parking_of(streams, counting)
    holds = [await streams.held(broker, f"m-{number}") for number in range(5)]
    stays = [parking.park(Stay(hold, (EUROPE,), broker.now_ms() + LONG_MS)) for hold in holds]
    assert await asyncio.gather(*stays) == [True] * 5
    assert counting.sent <= 2, "one more where the server did not hold the script"


async def test_a_lost_reply_of_park_is_mended_by_parking_again(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    lossy = Counting(streams.connection)
    parking = parking_of(streams, lossy)
    stay = Stay(await streams.held(broker), (EUROPE,), broker.now_ms() + LONG_MS)
    lossy.lose = True
    with pytest.raises(BrokerUnavailable):
        await parking.park(stay)
    assert await parking.park(stay) is True
    assert (await broker.survey()).parked == 1


async def test_a_lost_reply_of_claim_never_gives_a_request_to_two(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    await parked(streams, broker, 3)
    lossy = Counting(streams.connection)
    unsure = parking_of(streams, lossy, lease_ms=30)
    lossy.lose = True
    with pytest.raises(BrokerUnavailable):
        await unsure.claim([Want(EUROPE, 2)], 2)
    assert names(await unsure.claim([Want(EUROPE, 2)], 2)) == ["m-2"]
    await streams.pass_ms(35)
    again = await broker.reclaim(10)
    assert sorted((hold.request_id, hold.uncertain) for hold in again) == [(f"m-{each}", True) for each in range(3)]


async def test_what_has_no_business_in_a_lot_is_swept_out_as_it_is_met(streams: StreamsHouse) -> None:
    broker, parking = await streams.prepared(), parking_of(streams)
    holds = await parked(streams, broker, 7, lots=(EUROPE, US))
    execute, keys = streams.connection.execute, streams.keys
    await execute("DEL", keys.record("m-0"))
    await execute("HSET", keys.record("m-1"), "final", "expired")
    await execute("HDEL", keys.record("m-2"), "parked")
    await execute("HSET", keys.record("m-3"), "parked", US)
    await execute("DEL", keys.record("m-4"))
    await execute("SET", keys.record("m-4"), "x", "EX", 60)
    await execute("ZADD", keys.lot(EUROPE, Priority.HIGH), 1, "m-5")
    await execute("SET", keys.allocation("m-5"), "x", "EX", 60)
    arrivals = await parking.claim([Want(EUROPE, 100)], 100)
    assert names(arrivals) == ["m-5", "m-6"]
    assert (arrivals.waiting, arrivals.parked) == ({}, 1)
    assert arrivals.holds[0][0].attempts == ()
    assert names(await parking.claim([Want(US, 100)], 100)) == ["m-3"]
    left = {keys.lot_turns.encode(), keys.lot_names.encode()}
    assert set(await execute("KEYS", f"*{keys.namespace}*parked*")) <= left
    await broker.hand_back([(holds[0], False)])


async def test_sweeping_is_bounded_in_each_call_and_comes_to_an_end(streams: StreamsHouse) -> None:
    broker, parking = await streams.prepared(), parking_of(streams)
    await parked(streams, broker, 1)
    strangers = [word for number in range(600) for word in (number, f"gone-{number}")]
    await streams.connection.execute("ZADD", streams.keys.lot(EUROPE, Priority.NORMAL), *strangers)
    got = [await parking.claim([Want(EUROPE, 1)], 1) for _ in range(3)]
    assert [names(each) for each in got] == [[], [], ["m-0"]]
    assert [sum(each.waiting.get(EUROPE, {}).values()) for each in got] == [345, 89, 0]


async def test_a_parked_request_whose_record_is_gone_is_forgotten_when_its_lease_ends(streams: StreamsHouse) -> None:
    broker, parking = await streams.prepared(), parking_of(streams)
    await parking.park(Stay(await streams.held(broker), (), broker.now_ms() + 20))
    await streams.connection.execute("DEL", streams.keys.record("m-1"))
    await streams.pass_ms(25)
    assert await broker.reclaim(10) == []
    survey = await broker.survey()
    assert (survey.held, survey.parked) == (0, 0)


async def test_a_hash_that_is_none_keeps_no_request_from_being_parked_and_woken(streams: StreamsHouse) -> None:
    broker, parking = await streams.prepared(), parking_of(streams)
    hold = await streams.held(broker)
    await streams.connection.execute("SET", streams.keys.allocation("m-1"), "x", "EX", 60)
    assert await parking.park(Stay(hold, (EUROPE,), broker.now_ms(), ATTEMPTS)) is True
    await streams.pass_ms(2)
    (woken,) = await broker.reclaim(10)
    assert (woken.request_id, woken.attempts) == ("m-1", ())
    assert await broker.commit(streams.bad_end(woken)) == Done()


async def test_in_full_memory_nobody_is_parked_and_all_else_goes_on(private: StreamsHouse) -> None:
    broker, parking = await private.prepared(), parking_of(private)
    await parked(private, broker, 2)
    hold = await private.held(broker, "m-9")
    await private.connection.execute("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(BrokerFull):
        await parking.park(Stay(hold, (EUROPE,), broker.now_ms() + LONG_MS))
    assert (await private.allocation("m-9"))["state"] == "allocating"
    assert await broker.renew([hold]) == [True]
    ((called, _),) = (await parking.claim([Want(EUROPE, 1)], 1)).holds
    assert await broker.commit(private.good_end(called)) == Done()
    survey = await broker.survey()
    assert (survey.held, survey.parked) == (1, 1)


async def test_the_parked_outlive_a_restart_of_the_server(private: StreamsHouse) -> None:
    broker, parking = await private.prepared(), parking_of(private)
    await parked(private, broker, 3)
    private.server.stop()
    with pytest.raises(BrokerUnavailable):
        await parking.claim([Want(EUROPE, 3)], 3)
    private.server.start()
    arrivals = await parking.claim([Want(EUROPE, 3)], 3)
    assert names(arrivals) == ["m-0", "m-1", "m-2"]
    assert {hold.attempts for hold, _ in arrivals.holds} == {ATTEMPTS}


async def test_what_was_parked_before_a_loss_is_doubtful_when_it_is_called(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    await parked(streams, broker, 1)
    parking = StreamsParking(
        *(broker.steps, streams.keys),  # type: ignore[attr-defined]  # of the streams' broker
        lease_ms=LEASE_MS,
        fence=streams.fence,
        loss_ms=broker.now_ms,
        now_ms=broker.now_ms,
    )
    ((hold, _),) = (await parking.claim([Want(EUROPE, 1)], 1)).holds
    assert hold.doubtful


async def test_the_twin_is_away_and_full_as_a_server_is(twin: TwinHouse) -> None:
    broker = await twin.prepared()
    parking = MemoryParking(twin.store, lease_ms=LEASE_MS, fence=twin.fence)
    stay = Stay(await twin.held(broker), (EUROPE,), twin.now_ms + LONG_MS)
    twin.store.full = True
    with pytest.raises(BrokerFull):
        await parking.park(stay)
    assert (await broker.survey()).parked == 0
    twin.store.full = False
    assert await parking.park(stay)
    twin.store.full = True
    assert names(await parking.claim([Want(EUROPE, 1)], 1)) == ["m-1"]
    twin.store.away = True
    for step in (parking.park(stay), parking.claim([], 1)):
        with pytest.raises(BrokerUnavailable):
            await step
    await parking.close()
