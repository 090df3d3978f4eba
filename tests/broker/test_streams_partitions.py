"""A namespace that is split: made once, with one number of partitions."""

from __future__ import annotations

import pytest

from allocator.broker.broker import NamespaceTaken
from allocator.broker.streams import StreamsBroker
from allocator.contract.keys import Keys
from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection


@pytest.fixture
def keys_without_ttl() -> tuple[str, ...]:
    return ("*",)


def a_broker(connection: RedisConnection, keys: Keys, partitions: Partitions | None = None) -> StreamsBroker:
    return StreamsBroker(
        connection,
        keys,
        deployment="d",
        worker="w-1",
        lease_ms=1000,
        result_ttl_ms=60_000,
        results_max_age_ms=60_000,
        fence=lambda: "f",
        partitions=partitions,
    )


async def test_the_whole_and_each_partition_say_how_many_there_are(connection: RedisConnection, namespace: str) -> None:
    partitions = Partitions(namespace, 3)
    for keys in partitions.every:
        await a_broker(connection, keys, partitions).prepare()
    for keys in (partitions.whole, *partitions.every):
        assert await connection.execute("HGET", keys.meta, "partitions") == b"3"
        assert await connection.execute("HGET", keys.meta, "deployment") == b"d"
    assert await connection.execute("EXISTS", partitions.whole.requests(Priority.NORMAL)) == 0
    assert await connection.execute("XLEN", partitions.every[2].requests(Priority.NORMAL)) == 0


@pytest.mark.parametrize("count", [1, 2, 8])
async def test_a_worker_of_another_split_is_turned_away_with_what_to_set(
    connection: RedisConnection, namespace: str, count: int
) -> None:
    made, other = Partitions(namespace, 3), Partitions(namespace, count)
    await a_broker(connection, made.every[0], made).prepare()
    for keys in other.every:
        with pytest.raises(NamespaceTaken, match="set partitions to 3, or choose another namespace"):
            await a_broker(connection, keys, other).prepare()
    assert await connection.execute("EXISTS", *(keys.meta for keys in other.every[1:]), "none") == 0


async def test_a_partition_is_no_namespace_of_its_own(connection: RedisConnection, namespace: str) -> None:
    partitions = Partitions(namespace, 3)
    await a_broker(connection, partitions.every[1], partitions).prepare()
    with pytest.raises(NamespaceTaken, match="set partitions to 3"):
        await a_broker(connection, partitions.every[1]).prepare()


async def test_a_namespace_from_before_has_one_partition(connection: RedisConnection, namespace: str) -> None:
    keys = Keys(namespace)
    await connection.execute("HSET", keys.meta, "contract", 1, "deployment", "d", "partitions", 1)
    await a_broker(connection, keys).prepare()
    with pytest.raises(NamespaceTaken, match="was made with partitions = 1"):
        await a_broker(connection, Partitions(namespace, 2).every[0], Partitions(namespace, 2)).prepare()
