"""A client of a namespace with partitions: each request goes where the workers look for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from allocator.client import AllocatorClient
from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.errors import UnfitServer

if TYPE_CHECKING:
    from tests.conftest import TestServer, WaitUntil

FIVE = {"m-0": 3, "m-1": 1, "party": 3, "A:b.c_d-1": 3}
"""As `gzip` has it: the contract's arithmetic, not this program's."""


def test_a_request_belongs_to_the_crc32_of_its_id() -> None:
    assert Partitions("n", 5).number("123456789") == 0xCBF43926 % 5  # the check value that every table of CRCs names
    assert {name: Partitions("n", 5).number(name) for name in FIVE} == FIVE
    assert Partitions("n", 3).of("m-1").results == f"{{n:{Partitions('n', 3).number('m-1')}}}:results"
    assert Partitions("n", 1).of("m-1").results == "{n}:results"


async def test_each_request_goes_to_its_partition_and_is_asked_for_there(
    connection: RedisConnection, redis_url: str, namespace: str
) -> None:
    partitions = Partitions(namespace, 5)
    await connection.execute("HSET", partitions.whole.meta, "partitions", 5)
    try:
        async with AllocatorClient(redis_url, namespace) as client:
            names = [f"m-{number}" for number in range(20)]
            await asyncio.gather(*(client.submit({"id": name, "image": "g"}) for name in names))
            for name in names:
                assert (allocation := await client.get(name)) is not None
                assert allocation.request_id == name
                await client.cancel(name)
        for number, keys in enumerate(partitions.every):
            mine = sum(partitions.number(name) == number for name in names)
            assert mine
            assert await connection.execute("XLEN", keys.requests(Priority.NORMAL)) == mine
            assert await connection.execute("XLEN", keys.cancellations) == mine
    finally:
        await connection.execute("DEL", partitions.whole.meta)


async def test_until_a_worker_has_made_the_namespace_the_client_goes_by_what_it_was_told(
    connection: RedisConnection, redis_url: str, namespace: str
) -> None:
    async with AllocatorClient(redis_url, namespace, partitions=3) as client:
        await client.submit({"id": "m-1", "image": "g"})
        assert await connection.execute("XLEN", Partitions(namespace, 3).of("m-1").requests(Priority.NORMAL)) == 1
        await connection.execute("HSET", Partitions(namespace).whole.meta, "partitions", 2)
        await client.submit({"id": "m-1", "image": "g"})
        await connection.execute("DEL", Partitions(namespace).whole.meta)
        await client.submit({"id": "m-1", "image": "g"})
        assert await connection.execute("XLEN", Partitions(namespace, 2).of("m-1").requests(Priority.NORMAL)) == 2


async def test_partitions_that_cannot_be_counted_are_a_reason_to_upgrade(
    connection: RedisConnection, redis_url: str, namespace: str
) -> None:
    await connection.execute("HSET", Partitions(namespace).whole.meta, "partitions", "a few")
    async with AllocatorClient(redis_url, namespace) as client:
        with pytest.raises(UnfitServer, match="upgrade"):
            await client.get("m-1")
    await connection.execute("DEL", Partitions(namespace).whole.meta)


async def test_a_wait_that_begins_while_redis_is_away_goes_on(
    private_server: TestServer, namespace: str, wait_until: WaitUntil
) -> None:
    private_server.kill()
    async with AllocatorClient(private_server.url, namespace) as client:
        waiting = asyncio.create_task(client.wait("m-1"))
        with pytest.raises(TimeoutError, match="m-2 within"):
            await client.wait("m-2", timeout_seconds=0.3)
        assert not waiting.done()
        private_server.start()
        key = Partitions(namespace).of("m-1").allocation("m-1")
        private_server.command(
            "HSET", key, "state", "failed", "final", "1", "request_id", "m-1", "error_code", "deadline"
        )
        await wait_until(waiting.done)
        assert (await waiting).request_id == "m-1"
