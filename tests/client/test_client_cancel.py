"""`AllocatorClient.cancel`: an order that a worker will find, or nothing at all."""

from __future__ import annotations

from typing import Any

import pytest

from allocator.client import AllocatorClient, InvalidRequestError, Unavailable
from allocator.contract.keys import Keys
from allocator.redis_io.connect import RedisConnection


@pytest.fixture
def keys_without_ttl() -> tuple[str, ...]:
    return ("cancellations",)


async def test_a_cancellation_is_one_entry_that_names_the_id(
    client: AllocatorClient, connection: RedisConnection, keys: Keys
) -> None:
    first, second = await client.cancel("m-1"), await client.cancel("m-1")
    found = await connection.execute("XRANGE", keys.cancellations, "-", "+")
    assert found == [[first.encode(), [b"id", b"m-1"]], [second.encode(), [b"id", b"m-1"]]]


@pytest.mark.parametrize("request_id", ["", "m 1", "x" * 129, "m-1\n", "ä"])
async def test_an_id_that_no_request_can_bear_is_never_sent(
    client: AllocatorClient, connection: RedisConnection, keys: Keys, request_id: str
) -> None:
    with pytest.raises(InvalidRequestError, match=r"^id: must be"):
        await client.cancel(request_id)
    assert await connection.execute("EXISTS", keys.cancellations) == 0


async def test_a_redis_that_is_away_is_said_so(private_server: Any, namespace: str) -> None:
    async with AllocatorClient(private_server.url, namespace) as client:
        private_server.kill()
        with pytest.raises(Unavailable):
            await client.cancel("m-1")
