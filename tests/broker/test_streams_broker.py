"""What only a real server shows: full memory, foreign types, lost scripts and replies, slots, lifetimes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.broker import (
    BATCH_MAX,
    BrokerFull,
    BrokerUnavailable,
    Condemned,
    Done,
    Duplicate,
    Ended,
    Faulty,
    Hold,
    NamespaceTaken,
)
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import Unavailable

if TYPE_CHECKING:
    from tests.broker.conftest import StreamsHouse
    from tests.conftest import TestServer, WaitUntil

BEST_FIRST = tuple(Priority)
LATE = Condemned("gameye", "s-0", "late")
DAY_MS = 86_400_000


class Lossy:
    """A connection that runs what it is told and, once `lose` is set, says that the reply never came."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self.lose = False

    async def execute(self, *command: Any) -> Any:
        reply = await self._connection.execute(*command)
        if self.lose:
            self.lose = False
            raise Unavailable("the reply was lost")
        return reply


class Noting:
    """A connection that notes the keys which scripts name."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self.named: set[str] = set()

    async def server_of(self, key: str) -> RedisConnection:
        return await self._connection.server_of(key)

    async def execute(self, *command: Any) -> Any:
        if command[0] in ("EVAL", "EVALSHA"):
            self.named |= set(command[3 : 3 + command[2]])
        return await self._connection.execute(*command)


@pytest.fixture
async def private(private_server: TestServer, streams_class: type[StreamsHouse]) -> AsyncIterator[StreamsHouse]:
    """A house on a server of this test alone."""
    async with await connect(private_server.url, name="test") as connection:
        yield streams_class(connection, private_server, "private")


async def test_every_lost_reply_is_mended_by_asking_again(streams: StreamsHouse) -> None:
    lossy: Any = Lossy(streams.connection)
    house = type(streams)(lossy, streams.server, streams.keys.namespace)
    broker = await streams.prepared()
    unsure = house.broker("w-2")
    ask, other = [streams.ask(await streams.taken(broker), name, reply_to="mm") for name in ("m-1", "m-2")]
    bad = await streams.taken(broker, b"bad")

    async def insist(step: Any) -> Any:
        lossy.lose = True
        with pytest.raises(BrokerUnavailable):
            await step()
        return await step()

    hold, second = await insist(lambda: unsure.reserve([ask, other]))
    assert isinstance(hold, Hold)
    assert await insist(lambda: unsure.renew([hold])) == [True]
    assert await insist(lambda: unsure.next_generation(hold, [LATE])) == 2
    assert await insist(lambda: unsure.note(hold, (), Code.NO_CAPACITY, "full")) is True
    await insist(lambda: unsure.commit(streams.good_end(hold)))
    await insist(lambda: unsure.refuse(streams.failing(bad, "m-3")))
    await insist(lambda: unsure.hand_back([(second, True)]))
    await insist(lambda: unsure.recheck(LATE, 0))
    (taken_over,) = await broker.reclaim(10)
    assert (taken_over.request_id, taken_over.uncertain) == ("m-2", False)
    assert [(name, state) for name, state, _ in await streams.results()] == [("m-1", "allocated"), ("m-3", "failed")]
    assert len(await streams.replies("mm")) == len(await streams.dead_letters()) == 1
    assert await streams.condemned() == ["gameye/s-0"]


async def test_a_record_of_a_foreign_type_costs_its_neighbours_nothing(streams: StreamsHouse) -> None:
    broker = await streams.prepared(lease_ms=30)
    good = [await streams.held(broker, f"m-{number}") for number in range(3)]
    broken = good[1]
    await streams.connection.execute("SET", streams.keys.record("m-1"), "x", "PX", 60_000)
    asks = [streams.ask(await streams.taken(broker), name) for name in ("n-0", "m-1", "n-2")]
    first, faulty, last = await broker.reserve(asks)
    assert isinstance(first, Hold)
    assert isinstance(faulty, Faulty)
    assert "m-1" in faulty.message
    assert isinstance(last, Hold)
    assert await streams.left() == {"normal": 1, "normal pending": 1, "leases": 5}
    assert await broker.renew(good) == [True, False, True]
    noted = await asyncio.gather(*(broker.note(hold, (), Code.NO_CAPACITY, "full") for hold in good))
    assert noted == [True, False, True]
    assert await broker.next_generation(broken, [LATE]) is None
    await broker.hand_back([(hold, True) for hold in good])
    again = {hold.request_id: hold for hold in await broker.reclaim(10)}
    assert {"m-0", "m-2"} <= again.keys()
    assert "m-1" not in again
    ends = [again["m-0"], broken, again["m-2"]]
    said = await asyncio.gather(*(broker.commit(streams.good_end(hold)) for hold in ends))
    assert [isinstance(each, Done) for each in said] == [True, False, True]


async def test_what_was_asked_for_is_not_kept_beyond_the_end(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    hold = await streams.held(broker)
    assert await streams.connection.execute("HEXISTS", streams.keys.record("m-1"), "body")
    await broker.commit(streams.good_end(hold))
    assert not await streams.connection.execute("HEXISTS", streams.keys.record("m-1"), "body")


async def test_a_note_of_the_condemned_that_was_lost_is_made_anew_and_ages(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    await streams.connection.execute("ZADD", streams.keys.condemned, 0, "gameye/s-0")
    (first,) = await broker.claim_condemned(1, 0)
    await streams.pass_ms(5)
    (second,) = await broker.claim_condemned(1, 0)
    assert first.since_ms == second.since_ms > 0


async def test_every_step_goes_on_after_the_scripts_were_flushed(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    await streams.connection.execute("SCRIPT", "FLUSH")
    entry = await streams.taken(broker)
    await streams.connection.execute("SCRIPT", "FLUSH")
    (hold,) = await broker.reserve([streams.ask(entry)])
    assert isinstance(hold, Hold)
    await streams.connection.execute("SCRIPT", "FLUSH")
    assert await broker.commit(streams.good_end(hold)) == Done()


async def test_every_key_that_a_step_touches_is_in_the_namespaces_slot(streams: StreamsHouse) -> None:
    noting: Any = Noting(streams.connection)
    house = type(streams)(noting, streams.server, streams.keys.namespace)
    await whole_life(house)
    touched = [key.decode() for key in await streams.connection.execute("KEYS", "*")]
    assert len(touched) > 8
    assert {name for name in {*noting.named, *touched} if not name.startswith(streams.keys.prefix)} == set()


async def test_after_all_is_done_nothing_is_left_and_only_the_lasting_have_no_lifetime(streams: StreamsHouse) -> None:
    await whole_life(streams)
    assert await streams.left() == {}
    names = [key.decode() for key in await streams.connection.execute("KEYS", "*")]
    lasting = {name for name in names if await streams.connection.execute("PTTL", name) == -1}
    assert lasting <= streams.keys.lasting
    consumers = await streams.connection.execute(
        "XINFO", "CONSUMERS", streams.keys.requests(Priority.NORMAL), "allocator"
    )
    assert consumers == []


async def whole_life(house: StreamsHouse) -> None:
    """Every step once, to the end of all requests."""
    broker = await house.prepared()
    good, bad = await house.held(broker, reply_to="mm"), await house.held(broker, "m-2")
    assert await broker.reserve([house.ask(await house.taken(broker))]) == [Duplicate()]
    assert await broker.renew([good, bad]) == [True, True]
    await broker.note(good, (), Code.NO_CAPACITY, "full")
    assert await broker.next_generation(bad, [LATE]) == 2
    await broker.commit(house.good_end(good))
    await broker.hand_back([(bad, False)])
    (again,) = await broker.reclaim(10)
    await broker.commit(house.bad_end(again, LATE))
    entry = await house.taken(broker)
    assert isinstance((await broker.reserve([house.ask(entry)]))[0], Ended)
    await broker.refuse(house.refusal(entry))
    await broker.refuse(house.failing(await house.taken(broker), "m-3", reply_to="mm"))
    await broker.refuse(house.refusal(await house.taken(broker), None, bury=True))
    await broker.survey()
    await broker.claim_condemned(10, 0)
    await broker.recheck(LATE, None)
    assert await house.condemned() == []
    await broker.close()


async def test_a_worker_that_leaves_takes_those_along_who_are_long_silent(streams: StreamsHouse) -> None:
    broker, other = await streams.prepared(), streams.broker("w-2")
    await streams.taken(other)
    await broker.take(1, BEST_FIRST)
    await other.take(1, BEST_FIRST)
    await broker.close()
    key = streams.keys.requests(Priority.NORMAL)
    assert [each[1] for each in await streams.connection.execute("XINFO", "CONSUMERS", key, "allocator")] == [b"w-2"]
    await streams.flush()
    await other.close()


async def test_streams_of_results_are_trimmed_by_age(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    old_ms = broker.now_ms() - 2 * 3_600_000
    for key in (streams.keys.results, streams.keys.results_for("mm"), streams.keys.dead_letters):
        start = old_ms - 8 * DAY_MS if key == streams.keys.dead_letters else old_ms
        for number in range(300):
            await streams.connection.execute("XADD", key, f"{start}-{number + 1}", "event", "x")
    hold = await streams.held(broker, reply_to="mm")
    await broker.commit(streams.good_end(hold))
    await broker.refuse(streams.failing(await streams.taken(broker), "m-2", reply_to="mm"))
    for key, fresh in ((streams.keys.results, 2), (streams.keys.results_for("mm"), 2), (streams.keys.dead_letters, 1)):
        # trimming goes by whole nodes of 100 entries
        assert fresh <= await streams.connection.execute("XLEN", key) <= fresh + 100
    assert await streams.connection.execute("PTTL", streams.keys.results_for("mm")) == pytest.approx(
        3_600_000, abs=2000
    )


@pytest.mark.parametrize(("contract", "deployment", "told"), [(2, "d", "upgrade"), (1, "other", "'other'")])
async def test_a_namespace_of_another_or_of_a_newer_contract_is_not_touched(
    streams: StreamsHouse, contract: int, deployment: str, told: str
) -> None:
    await streams.connection.execute("HSET", streams.keys.meta, "contract", contract, "deployment", deployment)
    with pytest.raises(NamespaceTaken, match=told):
        await streams.prepared()
    assert await streams.connection.execute("EXISTS", streams.keys.requests(Priority.NORMAL)) == 0


async def test_meta_says_what_is_understood_here(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    words = [word.decode() for word in await streams.connection.execute("HGETALL", streams.keys.meta)]
    meta = dict(zip(words[::2], words[1::2], strict=True))
    assert int(meta.pop("created_at")) == pytest.approx(broker.now_ms(), abs=2000)
    assert meta == {"contract": "1", "deployment": "d", "partitions": "1"}


async def test_more_commits_than_a_batch_holds_are_all_answered(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    holds = [await streams.held(broker, f"m-{number}") for number in range(BATCH_MAX + 3)]
    assert await broker.renew(holds) == [True] * len(holds)
    said = await asyncio.gather(*(broker.commit(streams.good_end(hold, session=hold.request_id)) for hold in holds))
    assert said == [Done()] * len(holds)
    assert {name for name, *_ in await streams.results()} == {hold.request_id for hold in holds}


async def test_in_full_memory_only_new_requests_are_refused(private: StreamsHouse) -> None:
    broker = await private.prepared()
    holds = [await private.held(broker, f"m-{number}") for number in range(5)]
    entries = [await private.taken(broker, b"bad") for _ in range(2)]
    await private.add(b"waiting")
    await private.connection.execute("CONFIG", "SET", "maxmemory", 1)
    (waiting,) = await broker.take(10, BEST_FIRST)
    with pytest.raises(BrokerFull):
        await broker.reserve([private.ask(waiting, "m-9")])
    assert await private.broker("w-2").prepare() is None  # type: ignore[func-returns-value]  # that it returns at all
    assert await broker.renew(holds) == [True] * 5
    assert await broker.note(holds[0], (), Code.NO_CAPACITY, "full") is True
    assert await broker.commit(private.good_end(holds[0])) == Done()
    assert await broker.commit(private.bad_end(holds[1], LATE)) == Done()
    assert await broker.next_generation(holds[2], [Condemned("gameye", "s-2", "late")]) == 2
    await broker.refuse(private.failing(entries[0], "m-7"))
    await broker.refuse(private.refusal(entries[1], None, bury=True))
    (due,) = await broker.claim_condemned(10, 60_000)
    await broker.recheck(due, 0)
    assert await broker.claim_condemned(10, 60_000) == [due]
    await broker.recheck(due, None)
    await broker.hand_back([(holds[3], True)])
    assert [hold.request_id for hold in await broker.reclaim(10)] == ["m-3"]
    assert (await broker.survey()).condemned == 1
    assert await private.broker("w-2").strays(10, 0) == [waiting]
    assert await private.left() == {"leases": 3, "normal": 1, "normal pending": 1}
    await broker.close()
    await private.connection.execute("CONFIG", "SET", "maxmemory", 0)
    assert isinstance((await broker.reserve([private.ask(waiting, "m-9")]))[0], Hold)


async def test_a_server_that_is_away_is_a_broker_that_is_unavailable(private: StreamsHouse) -> None:
    broker = await private.prepared()
    hold, entry = await private.held(broker), await private.taken(broker)
    private.server.kill()
    steps = [
        broker.prepare(),
        broker.take(1, BEST_FIRST),
        broker.wait(1),
        broker.strays(1, 0),
        broker.reserve([private.ask(entry, "m-2")]),
        broker.reclaim(1),
        broker.renew([hold]),
        broker.note(hold, (), Code.NO_CAPACITY, "full"),
        broker.next_generation(hold, [LATE]),
        broker.commit(private.good_end(hold)),
        broker.refuse(private.refusal(entry)),
        broker.hand_back([(hold, True)]),
        broker.claim_condemned(1, 0),
        broker.recheck(LATE, None),
        broker.survey(),
    ]
    for step in steps:
        with pytest.raises(BrokerUnavailable) as told:
            await step
        assert told.value.kind == "connection"
    private.server.start()
    assert await broker.commit(private.good_end(hold)) == Done()


async def test_one_that_waits_when_the_server_ends_is_told(private: StreamsHouse, wait_until: WaitUntil) -> None:
    broker = await private.prepared()
    waiting = asyncio.ensure_future(broker.wait(1))

    async def blocked() -> bool:
        return b"cmd=xreadgroup" in await private.connection.execute("CLIENT", "LIST")

    await wait_until(blocked)
    private.server.kill()
    with pytest.raises(BrokerUnavailable):
        await waiting


async def test_a_reply_to_that_names_what_is_no_stream_costs_its_owner_nothing(streams: StreamsHouse) -> None:
    broker, theirs = await streams.prepared(), streams.keys.results_for("mm-1")
    await streams.connection.execute("SET", theirs, "theirs")
    await broker.refuse(streams.failing(await streams.taken(broker, b"bad"), reply_to="mm-1"))
    assert await streams.results() == [("m-1", "failed", "failed-event")]
    assert await streams.connection.execute("PTTL", theirs) == -1
    await streams.connection.execute("DEL", theirs)
