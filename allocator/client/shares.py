"""What a client holds of each partition, made when it is first needed.

In: a connection, a namespace, request ids. Out: the `Share` that a request belongs to. Promises: the namespace is asked
once for how many partitions it has, and many who need it at once ask together and go on in the order in which they
came; until a worker has made the namespace it is taken to have as many as `expected`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from allocator.client.listener import CLOSED, Listener
from allocator.client.outbox import Outbox
from allocator.client.partitions import read_partitions
from allocator.contract.keys import Keys
from allocator.contract.partitions import Partitions
from allocator.redis_io.batching import Batcher
from allocator.redis_io.connect import RedisConnection


@dataclass(frozen=True, slots=True)
class Share:
    """One partition, as a client uses it."""

    keys: Keys
    outbox: Outbox = field(repr=False)
    listener: Listener = field(repr=False)


class Shares:
    """All of them."""

    def __init__(self, connection: RedisConnection, expected: Partitions) -> None:
        self.connection = connection
        self._expected = expected
        self._known: Partitions | None = None
        self._closed = False
        self._shares: dict[str, Share] = {}
        self._asking: Batcher[None, Partitions] = Batcher(self._ask, items_max=2**31, in_flight_max=1)

    async def of(self, request_id: str) -> Share:
        """The one that a request belongs to. Unavailable while Redis is, where that is not known yet."""
        partitions = None if self._closed else self._known or await self._asking.submit(None)
        if self._closed or partitions is None:
            raise RuntimeError(CLOSED)
        keys = partitions.of(request_id)
        share = self._shares.get(keys.namespace)
        if share is None:
            share = Share(keys, Outbox(self.connection, keys), Listener(self.connection, keys))
            self._shares[keys.namespace] = share
        return share

    async def aclose(self) -> None:
        """Stop listening, send what was submitted, close the connection."""
        await self._asking.aclose()
        await asyncio.sleep(0)  # who learned only now where to send sends
        self._closed = True
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.connection.aclose)
            for share in self._shares.values():
                stack.push_async_callback(share.outbox.aclose)
            for share in self._shares.values():
                stack.push_async_callback(share.listener.aclose)

    async def _ask(self, asked: list[None]) -> list[Partitions]:
        self._known = self._known or await read_partitions(self.connection, self._expected.namespace)
        return [self._known or self._expected] * len(asked)
