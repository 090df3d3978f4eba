"""Running the steps on Redis: scripts, and what the door to Redis raises in the words of the port.

In: a connection, and what makes a lost consumer group anew. Out: replies. Everything that a broker on Redis does goes
through here, so that its caller hears of `BrokerUnavailable` and `BrokerFull` and never of Redis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from allocator.broker.broker import BrokerFull, BrokerUnavailable
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.errors import CommandFault, NoGroup, OutOfMemory, Refused, Unavailable
from allocator.redis_io.scripts import Script

BLOCK_MS = 2000
"""How long a read waits at the server; well under the time in which a reply must come."""

_GROUP_WENT = "UNBLOCKED"
"""What Redis 7.0 answers a blocked read whose stream was deleted; later servers say NOGROUP."""


class Steps:
    """One process's way to one namespace. `heal` makes the groups anew."""

    def __init__(self, connection: RedisConnection, heal: Callable[[], Awaitable[None]]) -> None:
        self.connection = connection
        self._heal = heal

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run one script, once."""
        async with self.asking():
            return await script.run(self.connection, keys, args)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Turn what the door to Redis raises into the port's words; a lost group is made anew."""
        try:
            yield
        except OutOfMemory as fault:
            raise BrokerFull(str(fault), fault.kind) from fault
        except NoGroup as fault:
            await self._heal()
            raise BrokerUnavailable(str(fault), fault.kind) from fault
        except CommandFault as fault:
            if not str(fault).startswith(_GROUP_WENT):
                raise
            await self._heal()
            raise BrokerUnavailable(str(fault), NoGroup.kind) from fault
        except (Unavailable, Refused) as fault:
            raise BrokerUnavailable(str(fault), fault.kind) from fault
