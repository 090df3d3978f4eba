"""Calls parked requests in as lanes get room for them: the best of each lot, as many as it serves in a moment.

In: the lanes and their lots. Out: requests that are ours now, each with the lot it was called from; with none where it
was woken, since a looser cap or its deadline has come. Promises: nobody is called that would only be sent out again;
what a lane that is used is told of its lot is never older than a moment, so that those who come anew queue behind
those who wait; one that nobody uses here costs Redis a look a second, however many there are. Who is parked for a place
that no request goes to any more, since settings have changed, is called in by and by, to be planned anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from allocator.broker.parking import Want
from allocator.engine.parts import Parts
from allocator.engine.takeover import Begin, begin_held, take_over

BUSY_SECONDS = 0.1
CALL_MAX = 64
"""Redis serves nobody else while it hands requests over: a few milliseconds for so many."""
IDLE_SECONDS = 1.0
"""How often a worker looks for what others have parked, where it knows of none."""
STRANDED_MAX = 32
"""Called at a time from lots that no worker serves any more, `BUSY_SECONDS` apart: most of them are parked again."""


class CallIn:
    """One worker's part in it. `room` says how many more it may hold; `begin` takes one and its lot, if any."""

    def __init__(self, parts: Parts, *, room: Callable[[], int], begin: Begin) -> None:
        self._parts = parts
        self._room = room
        self._begin = begin
        self._looked_at = float("-inf")
        self._looked_everywhere_at = float("-inf")
        self._somebody_waits = False
        self._stranded: list[str] = []
        """Lots that hold somebody, and that no worker serves."""
        self._stranded_called_at = float("-inf")

    async def turn(self) -> None:
        """Look once where it is time to, and rest. Raises BrokerUnavailable."""
        now = asyncio.get_running_loop().time()
        busy = self._somebody_waits or any(lane.outside.parked for lane in self._parts.lanes)
        if not busy and now - self._looked_at < IDLE_SECONDS:
            await self._parts.lanes.stirred(BUSY_SECONDS)
            return
        self._looked_at = now
        more = await self._look(now)
        if self._stranded and now - self._stranded_called_at >= BUSY_SECONDS:
            await self._call_stranded(now)
        if not more:
            await self._parts.lanes.stirred(BUSY_SECONDS)

    async def _look(self, since: float) -> bool:
        """Claim what there is room for; whether there may be more."""
        parts, room = self._parts, max(0, min(self._room(), CALL_MAX))
        everywhere, others = since - self._looked_everywhere_at >= IDLE_SECONDS, {}
        if everywhere:
            self._looked_everywhere_at = since
            others = parts.lanes.lots_without_lane()
        lanes = {lane.lot: lane for lane in parts.lanes if everywhere or not lane.is_idle}
        namespace = parts.policy.namespace
        wants = [Want(lot, min(lane.outside.part(namespace, lane.calls_in), room)) for lot, lane in lanes.items()]
        wants += [Want(lot, 0) for lot in others]
        arrivals = await parts.parking.claim(wants, room)
        for lot, (destination, guest) in others.items():
            if lot in arrivals.waiting:
                lanes[lot] = parts.lanes.of(destination, guest=guest)
        for lot, lane in lanes.items():
            lane.outside.hear(namespace, arrivals.waiting.get(lot, {}))
        for hold, lot in arrivals.holds:
            await begin_held(hold, parts, self._begin, since, lot)
        self._somebody_waits = arrivals.parked > 0
        if everywhere:
            await self._find_stranded()
        # a looser cap, or the deadline: thousands may have the same one, and most of these end at once
        left, woken = self._room() if self._somebody_waits else 0, 0
        if left > 0:
            woken = await take_over(left, parts, self._begin)
        return len(arrivals.holds) == room > 0 or woken == left > 0

    async def _find_stranded(self) -> None:
        """Find out who waits where no worker looks; a place that may be gone to from here gets its lane, and calls."""
        if not self._somebody_waits:
            self._stranded = []
            return
        lanes = self._parts.lanes
        served = [lane.lot for lane in lanes if lane.outside.parked and lanes.of_lot(lane.lot) is not None]
        left = await self._parts.parking.stranded(served)
        self._stranded = [lot for lot in left if lanes.of_lot(lot) is None]

    async def _call_stranded(self, since: float) -> None:
        """Claim a few of those who are parked where nobody goes any more: begun, they are parked where they may go."""
        self._stranded_called_at = since
        parts, room = self._parts, min(self._room(), STRANDED_MAX)
        if room <= 0:
            return
        lots = parts.chance.sample(self._stranded, min(len(self._stranded), room))
        arrivals = await parts.parking.claim([Want(lot, -(-room // len(lots))) for lot in lots], room)
        for hold, lot in arrivals.holds:
            await begin_held(hold, parts, self._begin, since, lot)
