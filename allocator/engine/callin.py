"""Calls parked requests in as lanes get room for them: the best of each lot, as many as it serves in a moment.

In: the lanes and their lots. Out: requests that are ours now, each with the lot it was called from; with none where it
was woken, since a looser cap or its deadline has come. Promises: nobody is called that would only be sent out again;
what a lane is told of its lot is never older than a moment, so that those who come anew queue behind those who wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from allocator.broker.broker import Hold
from allocator.broker.parking import Want
from allocator.contract.request import AllocationRequest, InvalidRequest, decode_request
from allocator.engine.course import was_parked
from allocator.engine.observer import Crashed, TakenOver
from allocator.engine.parts import Parts

BUSY_SECONDS = 0.1
CALL_MAX = 64
"""Redis serves nobody else while it hands requests over: a few milliseconds for so many."""
IDLE_SECONDS = 1.0
"""How often a worker looks for what others have parked, where it knows of none."""

Begin = Callable[[Hold, AllocationRequest, float, str | None], None]


class CallIn:
    """One worker's part in it. `room` says how many more it may hold; `begin` takes one and its lot, if any."""

    def __init__(self, parts: Parts, *, room: Callable[[], int], begin: Begin) -> None:
        self._parts = parts
        self._room = room
        self._begin = begin
        self._looked_at = float("-inf")
        self._looked_everywhere_at = float("-inf")
        self._somebody_waits = False

    async def turn(self) -> None:
        """Look once where it is time to, and rest. Raises BrokerUnavailable."""
        now = asyncio.get_running_loop().time()
        busy = self._somebody_waits or any(lane.parked for lane in self._parts.lanes)
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
        wants = [Want(lot, min(lane.calls_in, room)) for lot, lane in lanes.items()]
        others = {}
        if since - self._looked_everywhere_at >= IDLE_SECONDS:
            self._looked_everywhere_at = since
            others = parts.lanes.lots_without_lane()
            wants += [Want(lot, 0) for lot in others]
        if not wants:
            return False
        arrivals = await parts.parking.claim(wants, room)
        for lot, (destination, guest) in others.items():
            if lot in arrivals.waiting:
                lanes[lot] = parts.lanes.of(destination, guest=guest)
        for lot, lane in lanes.items():
            lane.parked = arrivals.waiting.get(lot, {})
        for hold, lot in arrivals.holds:
            self._begin_one(hold, since, lot)
        self._somebody_waits = arrivals.parked > 0
        woken = await self._wake(room - len(arrivals.holds), since) if self._somebody_waits else 0
        return len(arrivals.holds) + woken == room > 0

    async def _wake(self, room: int, since: float) -> int:
        """Take over those whose time has come, a looser cap or the deadline; how many."""
        if room <= 0:
            return 0
        holds = await self._parts.broker.reclaim(room)
        for hold in holds:
            if not was_parked(hold):
                self._parts.observe(TakenOver(hold.request_id, hold.uncertain))
            self._begin_one(hold, since, None)
        return len(holds)

    def _begin_one(self, hold: Hold, since: float, lot: str | None) -> None:
        decoded = decode_request(hold.raw)
        if isinstance(decoded, InvalidRequest):
            self._parts.observe(Crashed(f"request {hold.request_id}", ValueError(decoded.message)))
        else:
            self._begin(hold, decoded.request, since, lot)
