"""One look at the fleet: over all partitions, bounded beside any backlog, and what ended between two of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.allocation import State
from allocator.contract.keys import Keys
from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection, connect
from allocator.service.checkup_access import ACL_RULES
from allocator.service.look import UNREACHABLE, Looker
from allocator.service.look_results import READ_MAX, RECENT_MAX, TEXT_CHARS_MAX
from allocator.service.settings import load_settings
from tests.service.looking import announce, ended, fill

if TYPE_CHECKING:
    from tests.conftest import TestServer

OPTIONS = {"gameye.token": "t", "gameye.account": "studio", "regions": '{"europe": {"rate": 40}}'}
SPARING = frozenset({"time", "hget", "hgetall", "evalsha", "eval", "xrevrange", "xrange", "xlen", "zcard", "scard"})
SPARING_TOO = frozenset({"exists", "hmget", "xinfo|groups", "xinfo|stream", "client|setname", "client|setinfo", "info"})
"""What costs the same beside any backlog, where ranges have a count."""


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
async def own(redis_url: str) -> AsyncIterator[RedisConnection]:
    async with await connect(redis_url, name="test") as connection:
        yield connection


@pytest.fixture
def looker(own: RedisConnection, namespace: str) -> Looker:
    settings = load_settings(None, {**OPTIONS, "namespace": namespace}, {}, require=frozenset())
    return Looker(own, lambda: settings)


async def test_a_look_has_all_that_is_counted_and_how_each_region_stands(
    looker: Looker, redis_server: TestServer, keys: Keys
) -> None:
    fill(redis_server, keys)
    announce(redis_server, keys, [ended("m-1"), ended("m-2", State.FAILED, error_code="rejected")])
    redis_server.command("HSET", keys.levers, "paused", "0 ", "drained:europe", "0 ")
    told = (await looker.look()).to_data()
    assert {priority: depth["untaken"] for priority, depth in told["queue"].items()} == {
        "high": 1,
        "normal": 1,
        "low": 0,
    }
    assert told["queue"]["normal"]["pending"] == 1
    assert told["queue"]["high"]["oldest_seconds"] > 0 == told["queue"]["low"]["oldest_seconds"]
    counted = ("allocating", "parked", "cancellations", "dead_letters", "condemned", "paused")
    assert [told[name] for name in counted] == [2, 1, 1, 1, 2, True]
    assert told["orphans"] == {"unexplained": 1, "superseded": 2}
    assert told["levers"] == [
        {"region": "europe", "drained": True, "drained_until": None, "rate": None, "rate_until": None}
    ]
    assert [(row["region"], row["rate"], row["state"]) for row in told["regions"]] == [("europe", 40, "drained")]
    newest, oldest = told["results"]
    assert (newest["request_id"], newest["state"], newest["error_code"], newest["took_ms"]) == (
        "m-2",
        "failed",
        "rejected",
        2500,
    )
    assert (oldest["region"], oldest["endpoint"], oldest["took_ms"]) == ("europe", "203.0.113.7:20113", 1500)
    assert told["ended"] is None


async def test_an_empty_redis_is_a_look_at_nothing(looker: Looker) -> None:
    told = (await looker.look()).to_data()
    assert (told["orphans"], told["results"], told["allocating"]) == (None, [], 0)
    assert (await looker.look()).to_data()["ended"]["per_second"] == {}


async def test_a_look_sums_over_the_partitions_that_redis_knows_of(
    looker: Looker, redis_server: TestServer, namespace: str
) -> None:
    assert (await looker.look()).results == ()
    partitions = Partitions(namespace, 3)
    redis_server.command("HSET", partitions.whole.meta, "partitions", 3)
    for number, keys in enumerate(partitions.every):
        fill(redis_server, keys)
        announce(redis_server, keys, [ended(f"m-{number}")])
    look = await looker.look()
    assert (look.survey.held, look.survey.parked, look.cancellations, look.dead_letters) == (6, 3, 3, 3)
    assert look.survey.depths[Priority.HIGH].untaken == 3
    assert look.to_data()["orphans"] == {"unexplained": 3, "superseded": 6}
    assert [each.request_id for each in look.results] == ["m-2", "m-1", "m-0"]
    announce(redis_server, partitions.every[1], [ended("m-3", State.EXPIRED)])
    look = await looker.look()
    assert look.ended is not None
    assert (look.ended.by_state, look.ended.is_exact) == ({"expired": 1}, True)
    assert look.results[0].request_id == "m-3"


async def test_what_ended_between_two_looks_is_counted_whole_and_reckoned_by_state_where_it_was_much(
    looker: Looker, redis_server: TestServer, keys: Keys
) -> None:
    announce(redis_server, keys, [ended("before")] * 50)
    assert (await looker.look()).ended is None
    announce(redis_server, keys, [ended("m"), ended("m"), ended("m", State.CANCELLED)])
    few = (await looker.look()).ended
    assert few is not None
    assert (few.by_state, few.is_exact) == ({"allocated": 2, "cancelled": 1}, True)
    assert list(few.per_second) == ["allocated", "cancelled"]
    announce(redis_server, keys, [ended("m", State.FAILED)] * 1000 + [ended("m")] * 500)
    announce(redis_server, keys, [ended("m", State.EXPIRED), *[ended("m")] * 3] * (READ_MAX // 4))
    much = (await looker.look()).ended
    assert much is not None
    assert not much.is_exact
    assert sum(much.by_state.values()) == 1500 + READ_MAX
    assert much.by_state["allocated"] == 3 * much.by_state["expired"]
    assert (await looker.look()).to_data()["ended"]["per_second"] == {}


async def test_a_look_costs_the_same_beside_any_backlog(
    looker: Looker, own: RedisConnection, redis_server: TestServer, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    execute_many = own.execute_many

    async def recorded(commands: Any) -> list[Any]:
        replies = await execute_many(commands)
        ranges = [reply for command, reply in zip(commands, replies, strict=True) if command[0] == "XREVRANGE"]
        read.extend(len(each) for each in ranges)
        return replies

    monkeypatch.setattr(own, "execute_many", recorded)
    fill(redis_server, keys)
    with redis_server.plain() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(20_000):
            pipe.xadd(keys.requests(Priority.NORMAL), {"request": "{}"})
            pipe.xadd(keys.dead_letters, {"request": "{}"})
            pipe.zadd(keys.leases, {f"x-{number}": 9e15})
        pipe.execute()
    announce(redis_server, keys, [ended("m")] * 2000)
    redis_server.command("CONFIG", "RESETSTAT")
    look = await looker.look()
    assert look.survey.depths[Priority.NORMAL].untaken == 20_001
    assert len(look.results) == RECENT_MAX
    announce(redis_server, keys, [ended("m")] * 2000)
    await looker.look()
    assert read == [RECENT_MAX, READ_MAX]
    with redis_server.plain() as client:
        ran = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert ran - {"xadd", "config|resetstat"} <= SPARING | SPARING_TOO


async def test_a_redis_that_lost_everything_is_looked_at_from_the_beginning(
    looker: Looker, redis_server: TestServer, keys: Keys
) -> None:
    announce(redis_server, keys, [ended("m-1")] * 3)
    await looker.look()
    redis_server.command("FLUSHALL")
    lost = await looker.look()
    assert (lost.results, lost.ended) == ((), None)
    announce(redis_server, keys, [ended("m-2")])
    again = await looker.look()
    assert [each.request_id for each in again.results] == ["m-2"]
    assert again.ended is None
    assert (await looker.look()).ended is not None


async def test_a_look_that_fails_leaves_the_next_one_the_whole_count(
    private_server: TestServer, namespace: str, keys: Keys
) -> None:
    settings = load_settings(None, {**OPTIONS, "namespace": namespace}, {}, require=frozenset())
    async with await connect(private_server.url, name="test") as connection:
        looker = Looker(connection, lambda: settings)
        announce(private_server, keys, [ended("m-1")])
        await looker.look()
        announce(private_server, keys, [ended("m-2")] * 2)
        private_server.stop()
        for _ in range(2):
            with pytest.raises(UNREACHABLE, match="cannot be reached"):
                await looker.look()
        private_server.start()
        look = await looker.look()
        assert look.ended is not None
        assert look.ended.by_state == {"allocated": 2}
        assert len(look.results) == 3


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"data":[]}',
        b"[" * 5000,
        b'{"data":{"region":7,"endpoint":null,"enqueued_at":true,"updated_at":1e999,"allocated_at":-1}}',
        b'{"data":{"region":"\\ud800","error_code":"' + b"x" * 5000 + b'","enqueued_at":' + b"9" * 400 + b"}}",
    ],
)
async def test_whatever_somebody_announces_is_a_result_that_can_be_written_down(
    looker: Looker, redis_server: TestServer, keys: Keys, event: bytes
) -> None:
    huge = f"{2**64 - 2}-0"
    redis_server.command("XADD", keys.results, huge, "event", event, "request_id", b"\xff" * 5000)
    (told,) = (await looker.look()).to_data()["results"]
    assert json.dumps(told).encode()
    assert told["took_ms"] is None
    assert all(len(text) <= TEXT_CHARS_MAX for text in told.values() if isinstance(text, str))


async def test_a_look_needs_no_more_rights_than_the_documented_ones_of_a_worker(
    private_server: TestServer, namespace: str, keys: Keys
) -> None:
    patterns = (f"~{keys.prefix}:*", "~{allocator}:internal:gate:*")
    private_server.command("ACL", "SETUSER", "worker", "on", ">pass", *patterns, *ACL_RULES)
    fill(private_server, keys)
    announce(private_server, keys, [ended("m-1")])
    settings = load_settings(None, {**OPTIONS, "namespace": namespace}, {}, require=frozenset())
    async with await connect(private_server.url.replace("//", "//worker:pass@"), name="test") as connection:
        assert len((await Looker(connection, lambda: settings).look()).results) == 1
