"""A client on a real server, and what a worker would write there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from allocator.client import Allocation, AllocatorClient, Priority
from allocator.contract.codes import Code
from allocator.contract.events import allocation_event, refusal_event
from allocator.contract.keys import Keys
from allocator.redis_io.connect import RedisConnection

Command = tuple[Any, ...]


class Words:
    """The commands that a worker would send."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def record(self, allocation: Allocation) -> list[Command]:
        """Write the hash."""
        pairs = [word for pair in allocation.to_hash().items() for word in pair]
        key = self.keys.allocation(allocation.request_id)
        return [("HSET", key, *pairs), ("PEXPIRE", key, 60_000)]

    def announce(self, allocation: Allocation) -> Command:
        event = allocation_event(allocation, deployment="d", entry_id="1-1")
        return self.raw(allocation.request_id, str(allocation.state), event)

    def raw(self, request_id: str, state: str, event: str) -> Command:
        return ("XADD", self.keys.results, "*", "request_id", request_id, "state", state, "event", event)


class Workers:
    """What the fleet does to the keys, without a fleet."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self.connection = connection
        self.keys = keys
        self.words = Words(keys)

    async def entries(self, priority: Priority = Priority.NORMAL) -> list[tuple[str, bytes]]:
        """What is in a request stream: (entry id, body)."""
        found = await self.connection.execute("XRANGE", self.keys.requests(priority), "-", "+")
        assert all(pairs[0] == b"request" and len(pairs) == 2 for _, pairs in found)
        return [(entry_id.decode(), pairs[1]) for entry_id, pairs in found]

    async def record(self, allocation: Allocation) -> None:
        """Write the hash."""
        await self._together(*self.words.record(allocation))

    async def announce(self, allocation: Allocation, *, settle: str | None = None) -> None:
        """Add the event alone, in one step with the settling of an entry."""
        await self._together(self.words.announce(allocation), *self._settle(settle))

    async def end(self, allocation: Allocation, *, settle: str | None = None) -> None:
        """Write the hash and the event."""
        event = self.words.announce(allocation)
        await self._together(*self.words.record(allocation), event, *self._settle(settle))

    async def settle(self, entry_id: str) -> None:
        await self._together(*self._settle(entry_id))

    async def refuse(self, request_id: str, entry_id: str, code: Code = Code.ID_CONFLICT, **data: Any) -> None:
        event = refusal_event(
            deployment="d",
            entry_id=entry_id,
            priority=Priority.NORMAL,
            request_id=request_id,
            code=code,
            message="no",
            at_ms=1,
            **data,
        )
        await self._together(self.words.raw(request_id, "refused", event), *self._settle(entry_id))

    def _settle(self, entry_id: str | None) -> list[Command]:
        return [("XDEL", self.keys.requests(Priority.NORMAL), entry_id)] if entry_id else []

    async def _together(self, *commands: Command) -> None:
        *_, replies = await self.connection.execute_many([("MULTI",), *commands, ("EXEC",)])
        assert isinstance(replies, list), replies


@pytest.fixture
def keys_without_ttl() -> tuple[str, ...]:
    """What the contract trims instead."""
    return ("requests", "requests:*", "results")


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def words(keys: Keys) -> Words:
    return Words(keys)


@pytest.fixture
def workers(connection: RedisConnection, keys: Keys) -> Workers:
    return Workers(connection, keys)


@pytest.fixture
async def client(connection: RedisConnection, redis_url: str, namespace: str) -> AsyncIterator[AllocatorClient]:
    async with AllocatorClient(redis_url, namespace) as client:
        yield client
