"""A connection to a cluster: as to one server, while slots move and nodes end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import Redirected, RedisFault, Unavailable, UnfitServer
from allocator.redis_io.scripts import Script
from allocator.redis_io.server import check_server

if TYPE_CHECKING:
    from tests.cluster.estate import TestCluster
    from tests.conftest import TestServer, WaitUntil

NAMES = [f"{{n:{number}}}:k" for number in range(12)]
BOTH = Script("both", "#!lua\n-- x\n-- KEYS:\n-- ARGV:\n-- REPLY:\n-- MEMORY:\nreturn redis.call('INCR', KEYS[1])\n")


async def test_each_command_reaches_the_node_that_has_its_key(cluster: TestCluster) -> None:
    async with await connect(cluster.url, name="test") as connection:
        for name in NAMES:
            assert await connection.execute("SET", name, name) == b"OK"
        replies = await connection.execute_many([("GET", name) for name in NAMES])
        assert replies == [name.encode() for name in NAMES]
    assert all(server.command("DBSIZE") for server in cluster.primaries)


async def test_a_script_runs_on_every_node_that_never_saw_it(cluster: TestCluster) -> None:
    async with await connect(cluster.url, name="test") as connection:
        for count in (1, 2):
            assert [await BOTH.run(connection, [name]) for name in NAMES] == [count] * len(NAMES)


async def test_a_command_without_a_key_goes_with_the_first_that_has_one(cluster: TestCluster) -> None:
    async with await connect(cluster.url, name="test") as connection:
        for name in NAMES:
            identity, _ = await connection.execute_many([("CLUSTER", "MYID"), ("GET", name)])
            assert identity == cluster.id_of(cluster.owner(name))


async def test_keys_of_two_slots_in_one_command_are_a_fault_of_the_caller(cluster: TestCluster) -> None:
    async with await connect(cluster.url, name="test") as connection:
        with pytest.raises(RedisFault, match="CROSSSLOT"):
            await connection.execute("DEL", *NAMES)


async def test_a_fault_of_one_node_leaves_the_replies_of_the_others(cluster: TestCluster) -> None:
    async with await connect(cluster.url, name="test") as connection:
        await connection.execute("LPUSH", NAMES[0], "x")
        first, *others = await connection.execute_many([("GET", name) for name in NAMES])
        assert isinstance(first, RedisFault)
        assert others == [None] * (len(NAMES) - 1)


async def test_a_blocking_read_hears_of_the_key_wherever_it_is(cluster: TestCluster, wait_until: WaitUntil) -> None:
    async with await connect(cluster.url, name="test") as connection:
        for name in NAMES:
            read = asyncio.create_task(
                connection.execute_blocking("XREAD", "BLOCK", 2000, "STREAMS", name, "0"), name=name
            )
            await wait_until(partial(_is_awaited, cluster.owner(name)))
            await connection.execute("XADD", name, "1-1", "f", "v")
            assert await read == [[name.encode(), [[b"1-1", [b"f", b"v"]]]]]


async def test_the_server_of_a_key_is_the_one_that_is_checked(cluster: TestCluster) -> None:
    evicting = cluster.primaries[2]
    evicting.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        async with await connect(cluster.url, name="test") as connection:
            assert len(await connection.servers()) == len(cluster.primaries)
            for name in NAMES:
                server = await connection.server_of(name)
                assert str(cluster.owner(name).port) in server.url
                if cluster.owner(name) is not evicting:
                    assert (await check_server(server)).role == "master"
                    continue
                with pytest.raises(UnfitServer, match=f"{evicting.port}.*noeviction"):
                    await check_server(server)
    finally:
        evicting.command("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_node_is_not_taken_for_a_server_that_stands_alone(cluster: TestCluster) -> None:
    node = cluster.primaries[0]
    async with await connect(node.url, name="test") as connection:
        replies = await connection.execute_many([("GET", name) for name in NAMES])
        others = [reply for name, reply in zip(NAMES, replies, strict=True) if cluster.owner(name) is not node]
        assert others
        for reply in others:
            assert isinstance(reply, Redirected)
            assert isinstance(reply, UnfitServer)
            assert "redis+cluster://" in str(reply)


async def test_a_server_that_stands_alone_is_not_taken_for_a_cluster(redis_server: TestServer) -> None:
    async with await connect(f"redis+cluster://127.0.0.1:{redis_server.port}", name="test") as connection:
        with pytest.raises(UnfitServer, match="no Redis Cluster"):
            await connection.execute("GET", "k")


async def test_while_a_slot_moves_key_by_key_every_call_finds_its_key(cluster: TestCluster) -> None:
    name, source = NAMES[0], cluster.owner(NAMES[0])
    target = next(server for server in cluster.primaries if server is not source)
    async with await connect(cluster.url, name="test") as connection:
        await _counted(connection, [f"{name}{number}" for number in range(200)])
        await asyncio.gather(
            asyncio.to_thread(cluster.move_by_keys, name, target),
            *(_counted(connection, [f"{name}{number}" for number in range(begin, 200, 4)]) for begin in range(4)),
        )
        counts = await connection.execute_many([("GET", f"{name}{number}") for number in range(200)])
        assert counts == [b"2"] * 200
        assert cluster.owner(name) is target
    cluster.move_by_keys(name, source)


async def test_a_stream_is_read_on_by_a_blocked_reader_when_its_slot_moves(
    cluster: TestCluster, wait_until: WaitUntil
) -> None:
    name, source = NAMES[1], cluster.owner(NAMES[1])
    target = next(server for server in cluster.primaries if server is not source)
    async with await connect(cluster.url, name="test") as connection:
        await connection.execute("XADD", name, "1-1", "f", "v")
        read = asyncio.create_task(connection.execute_blocking("XREAD", "BLOCK", 2000, "STREAMS", name, "1-1"))
        await wait_until(lambda: b"cmd=xread" in source.command("CLIENT", "LIST", "TYPE", "normal"))
        await asyncio.to_thread(cluster.move_by_keys, name, target)
        async with await connect(cluster.url, name="test") as other:
            await other.execute("XADD", name, "2-1", "f", "v")
        assert await read == [[name.encode(), [[b"2-1", [b"f", b"v"]]]]]
    cluster.move_by_keys(name, source)


async def test_a_node_that_is_killed_is_unavailable_and_costs_the_others_nothing(
    cluster: TestCluster, wait_until: WaitUntil
) -> None:
    victim = cluster.primaries[0]
    theirs = [name for name in NAMES if cluster.owner(name) is victim]
    others = [name for name in NAMES if name not in theirs]
    async with await connect(cluster.url, name="test") as connection:
        await connection.execute_many([("SET", name, "v") for name in NAMES])
        victim.kill()
        try:
            for name in theirs:
                with pytest.raises(Unavailable):
                    await connection.execute("GET", name)
            assert await connection.execute_many([("GET", name) for name in others]) == [b"v"] * len(others)
        finally:
            victim.start(*cluster.options(victim))
        expected = [b"v"] * len(NAMES)

        async def all_answer() -> bool:
            return await connection.execute_many([("GET", name) for name in NAMES]) == expected

        await wait_until(all_answer, timeout_seconds=10)


async def _counted(connection: RedisConnection, names: list[str]) -> None:
    for name in names:
        await BOTH.run(connection, [name])


def _is_awaited(server: TestServer) -> bool:
    """Whether a call blocks there."""
    return b" flags=b " in server.command("CLIENT", "LIST")
