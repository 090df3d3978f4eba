"""Running the steps on Redis: scripts, and what the door to Redis raises in the words of the port.

In: a connection, and what makes a lost consumer group anew. Out: replies. Everything that a broker on Redis does goes
through here, so that its caller hears of `BrokerUnavailable` and `BrokerFull` and never of Redis.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
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

    def asking(self) -> _Asking:
        """Turn what the door to Redis raises into the port's words; a lost group is made anew."""
        return _Asking(self._heal)


class _Asking:
    """See `Steps.asking`. A class, since a generator for each step would cost as much as its words do."""

    __slots__ = ("_heal",)

    def __init__(self, heal: Callable[[], Awaitable[None]]) -> None:
        self._heal = heal

    async def __aenter__(self) -> None:
        """Nothing is to be done yet."""

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        match fault:
            case None:
                return
            case OutOfMemory():
                raise BrokerFull(str(fault), fault.kind) from fault
            case NoGroup():
                await self._heal()
                raise BrokerUnavailable(str(fault), fault.kind) from fault
            case CommandFault() if str(fault).startswith(_GROUP_WENT):
                await self._heal()
                raise BrokerUnavailable(str(fault), NoGroup.kind) from fault
            case Unavailable() | Refused():
                raise BrokerUnavailable(str(fault), fault.kind) from fault
