"""What is read off a server, and which servers are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import UnfitServer
from allocator.redis_io.server import ServerFacts, check_server, describe_server, parse_info, unfit

if TYPE_CHECKING:
    from tests.conftest import TestServer

FACTS = ServerFacts(
    product="Redis",
    version="7.0.15",
    run_id="r",
    replication_id="i",
    role="master",
    policy="noeviction",
    maxmemory_bytes=0,
    append_only=True,
    clock_offset_seconds=0.0,
)


async def test_a_fit_server_is_described(connection: RedisConnection, redis_server: TestServer) -> None:
    facts = await check_server(connection)
    assert facts.is_valkey == (redis_server.kind == "valkey")
    assert (facts.role, facts.policy, facts.append_only) == ("master", "noeviction", True)
    assert abs(facts.clock_offset_seconds) < 1
    assert len(facts.run_id) == len(facts.replication_id) == 40


async def test_the_clock_is_compared_with_ours(connection: RedisConnection) -> None:
    facts = await describe_server(connection, now=lambda: 1000.0)
    assert facts.clock_offset_seconds > 1_700_000_000


async def test_a_server_that_evicts_is_refused_with_what_to_change(private_server: TestServer) -> None:
    private_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with await connect(private_server.url, name="test") as connection:
        with pytest.raises(UnfitServer, match="set maxmemory-policy noeviction"):
            await check_server(connection)


async def test_the_policy_is_found_where_config_is_forbidden(private_server: TestServer) -> None:
    private_server.command("ACL", "SETUSER", "me", "on", ">pw", "~*", "+@all", "-config")
    private_server.command("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    async with await connect(f"redis://me:pw@127.0.0.1:{private_server.port}", name="test") as connection:
        with pytest.raises(UnfitServer, match="volatile-ttl"):
            await check_server(connection)


async def test_replicas_that_keep_up_are_counted_where_writes_wait_for_them(private_server: TestServer) -> None:
    async with await connect(private_server.url, name="test") as connection:
        alone = await describe_server(connection)
        private_server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        waiting = await describe_server(connection)
    assert (alone.replicas, alone.good_replicas) == (0, None)
    assert (waiting.replicas, waiting.good_replicas) == (0, 0)


@pytest.mark.parametrize(
    ("product", "version", "is_fit"),
    [
        ("Redis", "6.2.14", False),
        ("Redis", "7.0.0", True),
        ("Redis", "10.0.1", True),
        ("Redis", "", False),
        ("Valkey", "7.1.9", False),
        ("Valkey", "7.2.0", True),
        ("Valkey", "9.1.2", True),
    ],
)
def test_a_server_must_be_new_enough(product: str, version: str, *, is_fit: bool) -> None:
    assert (unfit(replace(FACTS, product=product, version=version)) is None) == is_fit


def test_a_policy_that_nobody_tells_is_let_pass() -> None:
    assert unfit(replace(FACTS, policy=None)) is None
    assert "noeviction" in (unfit(replace(FACTS, policy="volatile-lru")) or "")


def test_info_is_read_line_by_line() -> None:
    assert parse_info(b"# Server\r\nredis_version:7.0\r\n\r\nos:Linux: a\r\n") == {
        "redis_version": "7.0",
        "os": "Linux: a",
    }
