"""A connection by way of sentinels: always to the primary, through its end and through its silence."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import TYPE_CHECKING

import pytest

from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import Unavailable

if TYPE_CHECKING:
    from tests.cluster.estate import TestPair
    from tests.conftest import WaitUntil

RESUME_SECONDS = 3.0
END_SECONDS = 30.0


async def test_it_leads_to_the_primary(shared_pair: TestPair) -> None:
    async with await connect(shared_pair.url, name="test") as connection:
        assert (await connection.execute("ROLE"))[0] == b"master"
        assert await connection.execute("SET", "k", "v") == b"OK"
        (server,) = await connection.servers()
        assert await server.execute("GET", "k") == b"v"


async def test_a_name_that_no_sentinel_knows_is_unavailable_and_names_the_setting(shared_pair: TestPair) -> None:
    async with await connect(shared_pair.url.replace("/main", "/other"), name="test") as connection:
        with pytest.raises(Unavailable, match=r"'other'.*redis\.url"):
            await connection.execute("PING")


async def test_sentinels_that_are_down_are_passed_over(shared_pair: TestPair) -> None:
    nobody = "redis+sentinel://127.0.0.1:1,127.0.0.1:2,"
    async with await connect(shared_pair.url.replace("redis+sentinel://", nobody), name="test") as connection:
        assert await connection.execute("PING") == b"PONG"


@pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="a fleet goes through it in CI: LONG_TESTS=1")
@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_calls_resume_within_three_seconds_of_the_promotion(
    pair: TestPair, end: str, wait_until: WaitUntil
) -> None:
    promoted = asyncio.Event()
    async with await connect(pair.url, name="test") as connection, asyncio.TaskGroup() as group:
        callers = [group.create_task(_adds(connection, number, promoted)) for number in range(4)]

        async def many() -> bool:
            return int(await connection.execute("XLEN", "s")) > 100

        await wait_until(many)
        getattr(pair.primary, end)()
        await pair.promoted()
        # The new one has no replica of its own: it would refuse every write, as it was told to.
        pair.replica.command("CONFIG", "SET", "min-replicas-to-write", 0)
        promoted_at = time.monotonic()
        promoted.set()
        async with asyncio.timeout(END_SECONDS):
            resumed_at, added = zip(*[await caller for caller in callers], strict=True)
        assert max(resumed_at) - promoted_at < RESUME_SECONDS
        assert all(added)
        kept = {pairs[1] for _, pairs in await connection.execute("XRANGE", "s", "-", "+")}
        assert kept >= set().union(*added)


async def _adds(connection: RedisConnection, number: int, promoted: asyncio.Event) -> tuple[float, set[bytes]]:
    """Add until one was taken after the promotion: when that was, and what the old primary's replica had as well."""
    both: set[bytes] = set()
    for count in itertools.count():
        name = b"%d-%d" % (number, count)
        is_after = promoted.is_set()
        try:
            added, replicas = await connection.execute_many([("XADD", "s", "*", "f", name), ("WAIT", 1, 100)])
        except Unavailable:
            await asyncio.sleep(0.05)
            continue
        if isinstance(added, bytes) and is_after:
            break
        if isinstance(added, bytes) and replicas == 1:
            both.add(name)
    return time.monotonic(), both
