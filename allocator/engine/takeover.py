"""Requests that somebody had already, and that are ours now: to be begun, and told of where a worker let them lapse.

In: room. Out: begun requests. Promises: whose lease a loss of Redis has brought back is doubted, for it may be in play;
who was parked and is woken is no take-over; a record that cannot be read costs the others nothing (`unreadable`);
nothing is taken from the living because the broker was away (`contact`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from allocator.broker.broker import Hold
from allocator.contract.request import AllocationRequest, InvalidRequest, decode_request
from allocator.engine.course import was_parked
from allocator.engine.observer import TakenOver
from allocator.engine.parts import Parts
from allocator.engine.unreadable import end_if_late

Begin = Callable[[Hold, AllocationRequest, float, str | None], object]
"""Takes the hold, its request, since when the lease counts on the loop's clock, and the lot it was called from."""


async def take_over(room: int, parts: Parts, begin: Begin) -> int:
    """Begin up to `room` requests whose lease has ended; how many there were. Raises BrokerUnavailable."""
    since = asyncio.get_running_loop().time()
    await parts.broker.look_back()
    parts.contact.heard()
    if not parts.contact.may_take_over:
        return 0
    holds = await parts.broker.reclaim(room)
    for hold in holds:
        if not was_parked(hold):
            parts.observe(TakenOver(hold.request_id, hold.uncertain))
        await begin_held(hold, parts, begin, since, None)
    return len(holds)


async def begin_held(hold: Hold, parts: Parts, begin: Begin, since: float, lot: str | None) -> None:
    """Begin one that is ours, by what its record holds."""
    decoded = decode_request(hold.raw)
    if isinstance(decoded, InvalidRequest):
        await end_if_late(hold, decoded.message, parts)
    else:
        begin(hold, decoded.request, since, lot)
