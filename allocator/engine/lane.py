"""A lane: those who wait for one destination, and the one pump that asks the gate for their permits.

In: tickets. Out: permits, each at its moment. Order: priority, then deadline, then arrival; every tenth permit goes to
a lower priority. A lane that is shut gives nothing but probes, voids the permits it was given ahead and tells all who
wait; it asks the gate again and again meanwhile, since it may be another process whose probe finds it open.

The window bounds how many calls may be out to a destination that has not shown that it serves: it begins at
`FIRST_WINDOW` and grows by one with each success, so that a full region sees a dozen calls from each process and not a
whole burst.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.slots import Slots
from allocator.engine.ticket import Ticket
from allocator.gate.gate import Ask, Cause, Gate, GateUnavailable, Grant, Limit
from allocator.gate.local import ProcessCap

FIRST_WINDOW = 12
LATE_SECONDS = 0.04
"""A permit used later than this would crowd the next ones: at 60 a second it adds 2.4 to a rolling second's count."""
ROOM_SECONDS = 2.0
"""How much of its rate a lane lets wait before it sends the next ones on."""
RECHECK_SECONDS = 0.5
"""How often a lane that is shut asks the gate: a probe that is out, here or elsewhere, may open it at any moment."""
LOWER_SHARE = 10
ASK_MAX = 256


class Lane:
    """The wait for one destination in this process."""

    def __init__(
        self, destination: Destination, limits: tuple[Limit, ...], *, gate: Gate, slots: Slots, chance: random.Random
    ) -> None:
        """`limits` names the destination's own first; `slots` bounds the calls of the process."""
        self.destination = destination
        self.limits = limits
        self.cause: Cause | None = None
        """Why it is shut; None while it is open."""
        self.own_ids = False
        """Whether sessions came under ids of the provider's own: then a look-up by ours proves no absence."""
        own = limits[0]
        self._gate = gate
        self._slots = slots
        self._chance = chance
        self._cap = ProcessCap(own.rate, own.burst) if own.rate else None
        self._room = max(1.0, own.rate * ROOM_SECONDS) if own.rate else float("inf")
        self._heaps: dict[Priority, list[Ticket]] = {priority: [] for priority in Priority}
        self._stored = 0
        self._waiting = 0
        self._turns = 0
        self._out = 0
        self._held = 0
        self._window = FIRST_WINDOW
        self._shut_until = 0.0
        self._closings = 0
        self._unused_probe = False
        self._changed = asyncio.Event()
        self._opened = asyncio.Event()

    @property
    def opens_in_seconds(self) -> float:
        """How long until a probe may find it open; 0 where it is open."""
        return max(0.0, self._shut_until - asyncio.get_running_loop().time()) if self.cause else 0.0

    @property
    def has_room(self) -> bool:
        """Whether one more would be served in a moment."""
        return self.cause is None and self._waiting < self._room

    @property
    def wait_seconds(self) -> float:
        """How long one more would wait at the least: the whole rate for those who wait here. 0 where nobody knows."""
        rate = self.limits[0].rate
        return self._waiting / rate if rate and self.cause is None else 0.0

    def join(self, ticket: Ticket) -> None:
        """Wait here."""
        heapq.heappush(self._heaps[ticket.priority], ticket)
        self._waiting += 1
        self._stored += 1
        self._changed.set()

    def leave(self) -> None:
        """One who had joined waits no more; what is left of it is swept out once it is the larger part."""
        self._waiting -= 1
        if self._stored > 64 + 2 * self._waiting:
            for priority, heap in self._heaps.items():
                self._heaps[priority] = [ticket for ticket in heap if ticket.live]
                heapq.heapify(self._heaps[priority])
            self._stored = sum(map(len, self._heaps.values()))

    def close(self, cause: Cause, seconds: float) -> None:
        """Give nothing for so long; all who wait here go on to their next lane."""
        was_open = self.cause is None
        self.cause = cause
        self._closings += 1
        self._shut_until = asyncio.get_running_loop().time() + seconds
        self._window = FIRST_WINDOW
        if was_open:
            for ticket in [ticket for heap in self._heaps.values() for ticket in heap]:
                ticket.lane_shut(self)

    def reopen(self) -> None:
        """A call got through, here or elsewhere in the fleet."""
        self.cause = None
        self._shut_until = 0.0
        self._unused_probe = False
        self._opened.set()

    def finish(self, *, served: bool) -> None:
        """A call is back; `served` where the destination has shown that it serves."""
        self._out -= 1
        self._window += served
        self._slots.release(1)
        self._changed.set()

    async def pump(self) -> None:
        """Ask for permits and hand them out, until cancelled."""
        while True:
            if self._wanted() <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._while_shut()
            if (wanted := self._wanted()) <= 0:
                continue
            self._held = await self._slots.acquire(wanted)
            try:
                rest = await self._round()
            finally:
                self._slots.release(self._held)
                self._held = 0
            if rest > 0:
                await asyncio.sleep(rest)

    def _wanted(self) -> int:
        """How many permits could be used now."""
        self._drop_dead()
        return min(self._waiting if self._stored else 0, self._window - self._out, ASK_MAX)

    async def _while_shut(self) -> None:
        """Wait until it makes sense to ask the gate again."""
        self._opened.clear()
        if (rest := self.opens_in_seconds) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(rest, RECHECK_SECONDS)):
                    await self._opened.wait()

    async def _round(self) -> float:
        """One round with the gate; how long to rest after it."""
        loop = asyncio.get_running_loop()
        closings = self._closings
        try:
            grant = await self._gate.permits(Ask(self.limits, self._held))
        except GateUnavailable:
            return 0.05 + 0.1 * self._chance.random()
        if grant.closed is not None:
            if not self._unused_probe:
                self.close(grant.closed, grant.wait_seconds)
                return 0.0
            grant = Grant((0.0,), probe=True)
        if closings != self._closings and not grant.probe:
            return 0.0  # it shut while the gate was asked, which did not know of it yet
        if self.cause is not None and not grant.probe:
            self.reopen()
        self._give_back_but(len(grant.offsets_seconds))
        await self._serve(grant, loop.time())
        return grant.wait_seconds if not grant.offsets_seconds else 0.0

    def _give_back_but(self, needed: int) -> None:
        """Let the other lanes have the slots that these permits leave over."""
        surplus = max(0, self._held - needed)
        self._held -= surplus
        self._slots.release(surplus)

    async def _serve(self, grant: Grant, since: float) -> None:
        """Hand the permits out, each at its moment; the rest is void once the lane shuts."""
        loop = asyncio.get_running_loop()
        self._unused_probe = grant.probe
        for offset in grant.offsets_seconds:
            if offset > 0 and (early := since + offset - loop.time()) > 0:
                await asyncio.sleep(early)
            if self._cap is not None:
                await self._cap.acquire()
            if self.cause is not None and not grant.probe:
                return
            if loop.time() - (since + offset) > LATE_SECONDS and not grant.probe:
                continue
            ticket = self._next()
            if ticket is None:
                return
            self._unused_probe = False
            self._held -= 1
            self._out += 1
            ticket.serve(self, probe=grant.probe)

    def _drop_dead(self) -> None:
        for heap in self._heaps.values():
            while heap and not heap[0].live:
                heapq.heappop(heap)
                self._stored -= 1

    def _next(self) -> Ticket | None:
        """The best who waits; in every tenth turn a low one, in another a normal one where low ones wait as well."""
        self._turns += 1
        order = [Priority.HIGH, Priority.NORMAL, Priority.LOW]
        turn = self._turns % LOWER_SHARE
        if turn == 0:
            order = [Priority.LOW, Priority.NORMAL, Priority.HIGH]
        elif turn == LOWER_SHARE // 2 and self._heaps[Priority.LOW]:
            order = [Priority.NORMAL, Priority.HIGH, Priority.LOW]
        for priority in order:
            heap = self._heaps[priority]
            while heap:
                ticket = heapq.heappop(heap)
                self._stored -= 1
                if ticket.live:
                    return ticket
        return None
