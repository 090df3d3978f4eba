"""The port to what becomes of a request beside its way: cancelled, released, its sessions stopped.

In: cancellations of matchmakers, sessions that must not live. Out: holds that can be ended, and what is in play. A
cancellation is an order that stays pending until everything it asks for is durable; each step may be repeated.
`BrokerUnavailable` is raised as by the broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from allocator.broker.broker import Condemned, Hold


@dataclass(frozen=True, slots=True)
class Order:
    """One entry of the cancellations. `request_id` is None where it has no field `id` that one could bear."""

    entry_id: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Over:
    """The request has ended: in this state, with this session as (provider, session id)."""

    state: str
    session: tuple[str, str] | None
    entry_id: str
    """The entry that owned the request."""


class Aftermath(Protocol):
    """One namespace."""

    async def orders(self, count: int) -> list[Order]:
        """Read up to `count` new cancellations, waiting at most 2 s for the first."""
        ...

    async def stray_orders(self, count: int, idle_ms: int) -> list[Order]:
        """Take over cancellations that were read so long ago and never settled."""
        ...

    async def settle(self, order: Order) -> None:
        """All that the order asks for is done, or durable."""
        ...

    async def seize(self, request_id: str) -> Hold | Over | None:
        """Take a request over at once, under way as it is; its holder is told. None: nobody has asked for this id."""
        ...

    async def forestall(self, order: Order, fields: Mapping[str, str], event: str) -> bool:
        """Keep an id that nobody has asked for as ended; False where someone has by now."""
        ...

    async def condemn(self, condemned: Condemned, request_id: str, *, release: bool) -> bool:
        """Mark a session for stopping; False where an allocated hash names it and it is not to be released."""
        ...

    async def release(self, request_id: str, session: tuple[str, str], event: str) -> bool:
        """Say that the session of an allocated request has been stopped; False where that was said before."""
        ...

    async def allocation(self, request_id: str) -> Mapping[str, str]:
        """Read the allocation hash; empty where there is none."""
        ...

    async def seized(self) -> list[str]:
        """The requests that were seized since the last call, waiting at most 2 s for the first."""
        ...
