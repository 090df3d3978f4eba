"""One request's wait for a permit, in as many lanes as it takes; the first that serves it wins.

In: lanes, best first. Out: a `Permit`, or why there is none. It starts in the first lane that admits it; it joins the
next one as well as soon as that lane is shut or too long, or after `overflow_seconds` in it. It leaves a lane it has
joined only where a call would not end in time; one that waits at lanes that are shut stands in all of its lanes, so
that the first that opens or has its turn serves it. Where no lane admits it, or those it has joined shut and others are
to find out when they open, it is told to park.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from allocator.contract.request import Priority
from allocator.contract.values import quick
from allocator.engine.clock import fine_clock

if TYPE_CHECKING:
    from allocator.engine.lane import Lane


class NoPermit(Enum):
    """Why a wait ended without one."""

    TIME_IS_UP = 1
    PARK = 2
    """It would take longer than a moment: wait outside."""
    LOOK_AGAIN = 3
    """What the lanes were chosen by has changed."""


@quick
@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call through `lane` now; the lane must be told how it went.

    `doubted`: the destination's last calls came to nothing, so one that gets through has to be told to the gate.
    """

    lane: Lane
    waited_seconds: float
    probe: bool
    doubted: bool = False


class Ticket:
    """One place in the queues of several lanes. Compares by deadline, then by arrival."""

    __slots__ = (
        "_called_to",
        "_came",
        "_joined",
        "_lanes",
        "_loop",
        "_next",
        "_now",
        "_overflow",
        "_overflow_seconds",
        "_since",
        "deadline_at",
        "due_at",
        "future",
        "may_park",
        "priority",
        "rank",
    )

    def __init__(
        self,
        priority: Priority,
        rank: tuple[int, int],
        lanes: Sequence[Lane],
        overflow_seconds: float,
        *,
        may_park: bool = False,
        called_to: str | None = None,
        deadline_at: float = float("inf"),
    ) -> None:
        """`called_to` names the lot that the request was called in from, whose lane has a place for it.

        `deadline_at`: until when a call has to have ended, on the loop's clock.
        """
        self.priority = priority
        self.rank = rank
        self.deadline_at = deadline_at
        self.may_park = may_park
        self._called_to = called_to
        self._loop = lanes[0].loop
        self.future: asyncio.Future[Permit | NoPermit] = self._loop.create_future()
        self._lanes = lanes
        self._next = 0
        self._joined: list[Lane] = []
        self._overflow_seconds = overflow_seconds
        self._since = self._loop.time()
        self._now = fine_clock(self._loop)
        self._came = self._now()
        self._overflow: asyncio.TimerHandle | None = None

    def __lt__(self, other: Ticket) -> bool:
        return self.rank < other.rank

    @property
    def live(self) -> bool:
        """Whether it still waits."""
        return not self.future.done()

    @property
    def stranded(self) -> bool:
        """Whether every lane it may take is shut."""
        return all(lane.cause is not None for lane in self._lanes)

    async def wait(self, seconds: float) -> Permit | NoPermit:
        """Wait for the first permit, at most so long."""
        self._join_next()
        if not self.live:
            return self.future.result()
        deadlines = self._lanes[0].deadlines
        self.due_at = self._since + max(0.0, seconds)
        deadlines.set(self)
        try:
            return await self.future
        except asyncio.CancelledError:
            if self.future.done() and not self.future.cancelled() and isinstance(got := self.future.result(), Permit):
                got.lane.finish(served=False)
            raise
        finally:
            deadlines.call_off(self)
            self._leave()

    def expire(self) -> None:
        """Its time is up."""
        self._end(NoPermit.TIME_IS_UP)

    def serve(self, lane: Lane, *, probe: bool, doubted: bool) -> None:
        """Give the permit; called by a lane that has found the ticket live."""
        self._end(Permit(lane, self._now() - self._came, probe, doubted))

    def lane_shut(self, lane: Lane) -> None:
        """Go on to the next lane at once, where the one that shut is the last one joined."""
        if self.live and self._joined and lane is self._joined[-1]:
            self._join_next()

    def too_late(self, lane: Lane) -> None:
        """A call through this lane would not end in time; told by one that has taken the ticket out of its line.

        It waits where a call would, else for nothing but its time, and takes up no place that others could use.
        """
        self._stop_overflow()
        self._next = len(self._lanes)
        self._joined.remove(lane)
        lane.leave(self.priority)
        left_seconds = self.deadline_at - self._loop.time()
        for other in self._lanes:
            if other is not lane and other not in self._joined and other.usual.needs_seconds <= left_seconds:
                other.join(self)
                self._joined.append(other)
                return

    def look_again(self) -> None:
        """The lanes were chosen by what holds no more."""
        self._end(NoPermit.LOOK_AGAIN)

    def _join_next(self) -> None:
        self._stop_overflow()
        while self.live and self._next < len(self._lanes):
            lane = self._lanes[self._next]
            self._next += 1
            called = lane.lot == self._called_to
            if not lane.admits(self.priority, called=called) and self.may_park:
                continue
            if (permit := lane.permit_at_once()) is not None:
                self._end(permit)
                return
            lane.join(self)
            self._joined.append(lane)
            if lane.serves_soon(self.priority, called=called):
                if self._next < len(self._lanes):
                    self._overflow = self._loop.call_later(self._overflow_seconds, self._join_next)
                return
        if not self.live or not self.may_park:
            return
        if not any(lane.keeps_waiting for lane in self._joined):
            self._end(NoPermit.PARK)
        elif all(lane.cause is not None for lane in self._joined):
            self._stand_at_every_door()

    def _stand_at_every_door(self) -> None:
        """Wait in the lanes that had no room as well: else it misses its turn there for as long as these are shut."""
        for lane in self._lanes:
            if lane not in self._joined:
                lane.join(self)
                self._joined.append(lane)

    def _end(self, result: Permit | NoPermit) -> None:
        """Let the lanes go at once: who asks them in the same turn is told the truth."""
        if self.live:
            self.future.set_result(result)
            self._leave()

    def _leave(self) -> None:
        self._stop_overflow()
        while self._joined:
            self._joined.pop().leave(self.priority)

    def _stop_overflow(self) -> None:
        """The time in a lane counts from the moment it was joined, so that of the one before ends."""
        if self._overflow is not None:
            self._overflow.cancel()
            self._overflow = None
