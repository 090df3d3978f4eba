"""One request's wait for a permit, in as many lanes as it takes; the first that serves it wins.

In: lanes, best first. Out: a `Permit`, or None when the deadline comes first. It starts in the first lane alone; it
joins the next one as well as soon as that lane is shut or too long, or after `overflow_seconds` in it. It never leaves
a lane it has joined, so when every lane is shut, the first that opens serves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.contract.request import Priority

if TYPE_CHECKING:
    from allocator.engine.lane import Lane


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call through `lane` now; the lane must be told how it went."""

    lane: Lane
    waited_seconds: float
    probe: bool


class Ticket:
    """One place in the queues of several lanes. Compares by deadline, then by arrival."""

    __slots__ = ("_index", "_lanes", "_loop", "_overflow", "_overflow_seconds", "_since", "future", "priority", "rank")

    def __init__(
        self, priority: Priority, rank: tuple[int, int], lanes: Sequence[Lane], overflow_seconds: float
    ) -> None:
        self.priority = priority
        self.rank = rank
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Permit | None] = self._loop.create_future()
        self._lanes = lanes
        self._index = 0
        self._overflow_seconds = overflow_seconds
        self._since = self._loop.time()
        self._overflow: asyncio.TimerHandle | None = None

    def __lt__(self, other: Ticket) -> bool:
        return self.rank < other.rank

    @property
    def live(self) -> bool:
        """Whether it still waits."""
        return not self.future.done()

    async def wait(self, seconds: float) -> Permit | None:
        """Wait for the first permit, at most so long."""
        deadline = self._loop.call_later(max(0.0, seconds), self._expire)
        self._join_next()
        try:
            return await self.future
        except asyncio.CancelledError:
            if self.future.done() and not self.future.cancelled() and (permit := self.future.result()):
                permit.lane.finish(served=False)
            raise
        finally:
            deadline.cancel()
            self._stop_overflow()
            for lane in self._lanes[: self._index]:
                lane.leave()

    def serve(self, lane: Lane, *, probe: bool) -> None:
        """Give the permit; called by a lane that has found the ticket live."""
        self.future.set_result(Permit(lane, self._loop.time() - self._since, probe))

    def lane_shut(self, lane: Lane) -> None:
        """Go on to the next lane at once, where the one that shut is the last one joined."""
        if self.live and lane is self._lanes[self._index - 1]:
            self._join_next()

    def _join_next(self) -> None:
        self._stop_overflow()
        while self.live and self._index < len(self._lanes):
            lane = self._lanes[self._index]
            self._index += 1
            has_room = lane.has_room
            lane.join(self)
            if has_room:
                if self._index < len(self._lanes):
                    self._overflow = self._loop.call_later(self._overflow_seconds, self._join_next)
                return

    def _stop_overflow(self) -> None:
        """The time in a lane counts from the moment it was joined, so that of the one before ends."""
        if self._overflow is not None:
            self._overflow.cancel()
            self._overflow = None

    def _expire(self) -> None:
        if self.live:
            self.future.set_result(None)
