"""Calls parked requests in as lanes get room for them: the best of each lot, as many as it serves in a moment.

In: the lanes and their lots. Out: requests that are ours now, each with the lot it was called from. Promises: nobody is
called that would only be sent out again; what a lane is told of its lot is never older than a moment, so that those who
come anew queue behind those who wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from allocator.broker.broker import Hold
from allocator.broker.parking import Want
from allocator.contract.request import AllocationRequest, InvalidRequest, decode_request
from allocator.engine.observer import Crashed
from allocator.engine.parts import Parts

BUSY_SECONDS = 0.1
CALL_MAX = 64
"""Redis serves nobody else while it hands requests over: a few milliseconds for so many."""
IDLE_SECONDS = 1.0
"""How often a worker looks for what others have parked, where it knows of none."""

Begin = Callable[[Hold, AllocationRequest, float, str], None]


class CallIn:
    """One worker's part in it. `room` says how many more requests it may hold; `begin` takes one with its lot."""

    def __init__(self, parts: Parts, *, room: Callable[[], int], begin: Begin) -> None:
        self._parts = parts
        self._room = room
        self._begin = begin
        self._looked_at = float("-inf")

    async def turn(self) -> None:
        """Look once where it is time to, and rest. Raises BrokerUnavailable."""
        now = asyncio.get_running_loop().time()
        busy = any(lane.parked for lane in self._parts.lanes)
        if not busy and now - self._looked_at < IDLE_SECONDS:
            await self._parts.lanes.stirred(BUSY_SECONDS)
            return
        self._looked_at = now
        if not await self._look(now):
            await self._parts.lanes.stirred(BUSY_SECONDS)

    async def _look(self, since: float) -> bool:
        """Claim what there is room for; whether there may be more."""
        parts, room = self._parts, max(0, min(self._room(), CALL_MAX))
        lanes = {lane.lot: lane for lane in parts.lanes}
        if not lanes:
            return False
        wants = [Want(lot, min(lane.calls_in, room)) for lot, lane in lanes.items()]
        arrivals = await parts.parking.claim(wants, room)
        for lot, lane in lanes.items():
            lane.parked = arrivals.waiting.get(lot, {})
        for hold, lot in arrivals.holds:
            decoded = decode_request(hold.raw)
            if isinstance(decoded, InvalidRequest):
                parts.observe(Crashed(f"request {hold.request_id}", ValueError(decoded.message)))
            else:
                self._begin(hold, decoded.request, since, lot)
        return bool(arrivals.holds) and len(arrivals.holds) == room
