"""A lane: those who wait for one destination, and the one pump that asks the gate for their permits.

In: tickets. Out: permits, each at its moment, in the order of its `line`, or at once where some are at hand (`stock`)
and nobody waits. A lane holds what it can serve in a moment and no more; behind it lies its lot, where the others are
parked, and while any is there who comes anew goes there as well, so that nobody overtakes. A lane that is shut gives
nothing but probes, voids the permits it was given ahead and tells all who wait; it asks the gate again and again
meanwhile, since it may be another process whose probe finds it open.

The window bounds how many calls may be out to a destination that has not shown that it serves: it begins at
`FIRST_WINDOW` and grows by one with each success, so that a full region sees a dozen calls from each process and not a
whole burst.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.deadlines import Deadlines
from allocator.engine.line import Line
from allocator.engine.lot import Lot, lot_of
from allocator.engine.progress import LATE_SECONDS, Progress
from allocator.engine.slots import Slots
from allocator.engine.stock import Stock
from allocator.engine.ticket import Permit, Ticket
from allocator.engine.turns import LOWER_SHARE, ahead
from allocator.engine.usual import Usual
from allocator.gate.gate import Ask, Cause, Gate, GateUnavailable, Grant, Limit
from allocator.gate.local import ProcessCap

FIRST_WINDOW = 12
SHUT_ROOM = FIRST_WINDOW
"""How many wait at a lane that is shut, to be the first once it opens."""
ROOM_SECONDS = 2.0
"""How much of its rate a lane lets wait before it sends the next ones on."""
RECHECK_SECONDS = 0.5
"""How often a lane that is shut asks the gate: a probe that is out, here or elsewhere, may open it at any moment."""
LAST_RESORT_SECONDS = 0.1
"""The same where someone has nowhere else to go."""
UNLIMITED_ROOM = 1024.0
"""The same where there is no rate to reckon by."""
ASK_MAX = 256
SPARE_RATE = 20.0
"""From this rate on a permit that nobody uses holds up the next one for no longer than a human notices."""


class Lane:
    """The wait for one destination in this process."""

    def __init__(
        self,
        destination: Destination,
        limits: tuple[Limit, ...],
        *,
        gate: Gate,
        slots: Slots,
        chance: random.Random,
        stir: Callable[[], None] = lambda: None,
        guests: bool = False,
        first_window: int = FIRST_WINDOW,
    ) -> None:
        """`slots` bounds the calls of the process; `stir` hears when there is room for those in the lot.

        A lane of guests has a limit of its own before the destination's.
        """
        self.destination = destination
        self.lot = lot_of(destination, guests=guests)
        """Where those are parked who wait for it."""
        self.cause: Cause | None = None
        """Why it is shut; None while it is open."""
        self.own_ids = False
        """Whether sessions came under ids of the provider's own: then a look-up by ours proves no absence."""
        self.sibling: Lane | None = None
        """The other lane to the same destination: what shuts one shuts both."""
        self.outside = Lot()
        self.rate: float | None = None
        """What the fleet gives a second now; None until it was asked, or where there is no rate."""
        self.is_own = not guests
        """Whether it is the one that knows the destination's own rate."""
        self.loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(self.loop)
        """Until when those wait whose first choice this is."""
        self.usual = Usual(self.loop)
        """How long its calls take; known to its sibling as well."""
        self._stir = stir
        self.open_by: frozenset[str] | None = None
        """The regions that lead here and are not drained; None: not known. Where there is none it calls nobody in."""
        self._gate = gate
        self._slots = slots
        self._chance = chance
        self._line = Line()
        self._expected = self._out = self._held = self.closings = 0
        """`closings` counts every time it was shut, so that an answer from before can be told."""
        self._window, self._first_window, self._shut_until = first_window, first_window, 0.0
        self._progress = Progress()
        self.told = True
        """Whether the gate knows that it is shut."""
        self._unused_probe = False
        self._changed, self._opened = asyncio.Event(), asyncio.Event()
        self.relimit(limits)

    def relimit(self, limits: tuple[Limit, ...]) -> None:
        """Take other limits from now on."""
        self.limits = limits
        self.rate, burst = limits[0].rate, limits[0].burst
        self._cap = ProcessCap(self.rate, burst) if self.rate else None
        self._stock = Stock(self.loop)

    @property
    def waiting(self) -> int:
        """How many wait here."""
        return self._line.waiting

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits here or outside, as far as was heard, and no call is out."""
        return not (self._line.waiting or self._out or self.outside.parked)

    @property
    def own(self) -> Limit:
        """The destination's own limit: the one that is shut and slowed."""
        return self.limits[0 if self.is_own else 1]

    @property
    def opens_in_seconds(self) -> float:
        """How long until a probe may find it open; 0 where it is open."""
        return max(0.0, self._shut_until - self.loop.time()) if self.cause else 0.0

    @property
    def keeps_waiting(self) -> bool:
        """Whether those who wait here need not go elsewhere."""
        return self.cause is None or self._line.waiting <= SHUT_ROOM

    @property
    def held_back(self) -> bool:
        """Whether some wait here, and for what is not this process's: its opening, its rate, calls that hang."""
        return self._line.waiting > 0 and (self.cause is not None or self._progress.is_held_back)

    def admits(self, priority: Priority, *, called: bool = False) -> bool:
        """Whether one more may wait here: it is served in a moment, or is among the first once the lane opens.

        `called`: it comes from the lot, and its place here was kept for it.
        """
        if called:
            return True
        if self.cause is None:
            return self.serves_soon(priority)
        return self._line.waiting < SHUT_ROOM and not self._stands_behind(priority)

    def serves_soon(self, priority: Priority, *, called: bool = False) -> bool:
        """Whether one more of this priority would be served in a moment."""
        if called or self.cause is not None:
            return self.cause is None
        room = self._room
        soon = self._line.waiting < room or ahead(priority, self._line.waiting_by) < room
        return soon and not self._stands_behind(priority)

    def wait_seconds(self, priority: Priority) -> float:
        """How long one more would wait at the least: the whole rate for those before it. 0 where nobody knows."""
        if not self.rate or self.cause is not None:
            return 0.0
        parked = ahead(priority, self.outside.parked) if self.outside.parked else 0
        return (ahead(priority, self._line.waiting_by) + parked) / self.rate

    @property
    def calls_in(self) -> int:
        """How many from the lot it has room for."""
        if self.open_by == frozenset():
            return 0
        if self.cause is not None:
            return max(0, SHUT_ROOM - self._line.waiting)
        # one that has not shown that it serves may be shut in a moment, and all who were called would go out again
        room = min(self._room, 2 * self._window)
        if self._line.waiting * 2 <= room:
            return max(0, round(room) - self._line.waiting)
        # a lane that is kept full by better ones would leave those out for good who have nobody in it; of so many that
        # are called one is of the lowest priority
        left_out = any(count and not self._line.waiting_by[priority] for priority, count in self.outside.parked.items())
        return LOWER_SHARE if left_out and self._line.waiting <= self._room else 0

    @property
    def _room(self) -> float:
        return max(1.0, self.rate * ROOM_SECONDS) if self.rate else UNLIMITED_ROOM

    def _stands_behind(self, priority: Priority) -> bool:
        """Whether someone in the lot is before one of this priority who comes anew."""
        return bool(self.outside.parked) and ahead(priority, self.outside.parked) > 0

    def expect(self) -> None:
        """One is about to join: its permit is asked for already, where one that nobody uses would cost little."""
        spare = (self.rate or SPARE_RATE) >= SPARE_RATE
        if spare and self.cause is None and not self._line.waiting and not self.outside.parked and self._stock.is_low:
            self._expected += 1
            self._changed.set()

    def permit_at_once(self) -> Permit | None:
        """A permit that is at hand, for one who comes anew, where nobody is before it."""
        if not self._stock.at_hand or self._line.waiting or self.outside.parked or self._out >= self._window:
            return None
        if not self._slots.take_one():
            return None
        self._held += 1
        if not self._stock.take() or (self._cap is not None and not self._cap.take_one()):
            self._give_back_but(self._held - 1)
            return None
        self._expected = max(0, self._expected - 1)
        self._gives_one()
        if self._stock.is_low:
            self._changed.set()
        return Permit(self, 0.0, probe=False)

    def join(self, ticket: Ticket) -> None:
        """Wait here."""
        self._expected = max(0, self._expected - 1)
        if not self._line.waiting:
            self._progress.moved()
        self._line.join(ticket)
        self._changed.set()

    def leave(self, priority: Priority) -> None:
        """One who had joined waits no more."""
        self._line.leave(priority)
        if self.outside.parked and self.calls_in:
            self._stir()

    def look_again(self) -> None:
        """Let all who wait here choose their lanes anew."""
        for ticket in list(self._line):
            ticket.look_again()

    def close(self, cause: Cause, seconds: float, *, told: bool = True) -> None:
        """Give nothing for so long; all who wait here go on to their next lane."""
        was_open = self.cause is None
        self.cause, self.told = cause, told
        self.closings += 1
        self._shut_until = self.loop.time() + seconds
        self._window = self._first_window
        self._stock.void()
        if was_open:
            # from the last in the order, so that those who stay to find out when it opens are the first
            for ticket in self._line.from_the_last():
                ticket.lane_shut(self)
        if self.sibling is not None and self.sibling.cause is None:
            self.sibling.close(cause, seconds, told=told)

    def reopen(self) -> None:
        """A call got through, here or elsewhere in the fleet."""
        self.cause, self._shut_until = None, 0.0
        self._unused_probe = False
        self._opened.set()
        if self.outside.parked:
            self._stir()
        if self.sibling is not None and self.sibling.cause is not None:
            self.sibling.reopen()

    def finish(self, *, served: bool) -> None:
        """A call is back; `served` where the destination has shown that it serves."""
        self._out -= 1
        self._window += served
        self._slots.release(1)
        if self._line.waiting or self._expected:
            self._changed.set()

    async def pump(self) -> None:
        """Ask for permits and hand them out, until cancelled."""
        while True:
            if self._wanted() <= 0 and self._ahead() <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._while_shut()
            if (wanted := self._wanted()) > 0:
                self._held += await self._slots.acquire(wanted)
            try:
                await self._use_stock()
                rest = await self._round()
            finally:
                self._give_back_but(0)
            if rest > 0:
                await asyncio.sleep(rest)

    def _wanted(self) -> int:
        """How many permits could be used now."""
        return min(self._line.count() + self._expected, self._window - self._out, ASK_MAX)

    def _ahead(self) -> int:
        """How many permits to ask for beyond those, for who will come in a moment; none while calls are what lacks."""
        if self.cause is not None or self.outside.parked or self._progress.is_rationed:
            return 0
        return 0 if self._line.count() > self._held else min(self._stock.lacks(self.rate), self._window - self._out)

    async def _while_shut(self) -> None:
        """Wait until it makes sense to ask the gate again: not before it was told why the lane shut."""
        self._opened.clear()
        rest = self.opens_in_seconds
        if self.told:
            rest = min(rest, LAST_RESORT_SECONDS if self._last_resort() else RECHECK_SECONDS)
        if rest > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._opened.wait()

    async def _round(self) -> float:
        """One round with the gate; how long to rest after it."""
        closings, asked_at = self.closings, self.loop.time()
        if (asked := self._held + max(0, self._ahead())) <= 0:
            return 0.0
        self._expected = 0
        try:
            grant = await self._gate.permits(Ask(self.limits, asked, last_resort=self._last_resort()))
        except GateUnavailable:
            return 0.05 + 0.1 * self._chance.random()
        self.rate = grant.rate or self.rate
        if grant.probe or grant.doubted:
            self._stock.void()
        self._stock.may_ask = not grant.probe and not grant.doubted
        if grant.closed is not None:
            if not self._unused_probe:
                self.close(grant.closed, grant.wait_seconds)
                return 0.0
            grant = Grant((0.0,), probe=True)
        if closings != self.closings and not grant.probe:
            return 0.0  # it shut while the gate was asked, which did not know of it yet
        if self.cause is not None and not grant.probe:
            self.reopen()
        if self._progress.was_held_up(self.loop.time() - asked_at) and not grant.probe:
            return 0.0  # nobody knows how far from their moments these permits are
        self._progress.given(asked, grant.offsets_seconds)
        self._give_back_but(len(grant.offsets_seconds))
        await self._serve(grant, self.loop.time())
        return grant.wait_seconds if not grant.offsets_seconds else 0.0

    def _give_back_but(self, needed: int) -> None:
        """Let the other lanes have the slots that these permits leave over."""
        if (surplus := self._held - needed) > 0:
            self._held -= surplus
            self._slots.release(surplus)

    async def _serve(self, grant: Grant, since: float) -> None:
        """Hand the permits out, each at its moment; the rest is void once the lane shuts.

        Those that nobody waits for are kept at hand: they were asked for before those had come who are to have them.
        """
        loop = self.loop
        self._unused_probe = grant.probe
        for number, offset in enumerate(grant.offsets_seconds):
            if not self._line.count() or not self._held:
                self._stock.put(since + each for each in grant.offsets_seconds[number:])
                return
            if offset > 0 and (early := since + offset - loop.time()) > 0:
                await asyncio.sleep(early)
            if self._cap is not None:
                await self._cap.acquire()
            if self.cause is not None and not grant.probe:
                return
            if loop.time() - (since + offset) > LATE_SECONDS and not grant.probe:
                continue
            # where there are permits for all, the one with little time left costs nobody a better one
            ends_at = loop.time() + self.usual.needs_seconds if self._line.waiting > self._held else 0.0
            ticket = self._line.most_patient() if grant.probe else self._line.next(self, ends_at)
            if ticket is None:
                return
            self._unused_probe = False
            self._gives_one()
            ticket.serve(self, probe=grant.probe, doubted=grant.doubted)

    async def _use_stock(self) -> None:
        """Serve those who wait by the permits at hand, each at its moment."""
        now = self.loop.time()
        if self._held and self._line.count() and (due := self._stock.take_all()):
            await self._serve(Grant(tuple(each - now for each in due)), now)

    def _gives_one(self) -> None:
        self._progress.moved()
        self._stock.served()
        self._held -= 1
        self._out += 1

    def _last_resort(self) -> bool:
        """Whether someone waits here who has nowhere else to go, and the lane is only set aside."""
        return self.cause is Cause.SET_ASIDE and any(ticket.live and ticket.stranded for ticket in self._line)
