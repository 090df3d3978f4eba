"""Reading the streams: the next entries are read while the last ones are being reserved.

In: how many may come. Out: begun requests. Promises: no more is taken than there is room for, with what is being
reserved; batches are reserved one after the other, in the order in which they were read; what a read brings in a pause
stays pending; a turn that meets a fault is followed by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from allocator.broker.broker import BATCH_MAX, BrokerUnavailable, Entry, Hold
from allocator.contract.request import AllocationRequest, Priority
from allocator.engine.observer import Crashed, Leg
from allocator.engine.parts import Parts
from allocator.engine.takeup import take_up
from allocator.engine.turns import order_of

TAKE_MAX = 64
"""How many are read at once: of more, all would be at the same step of their way, and this process and Redis would
wait for each other in turn."""
FULL_SECONDS = 0.25
"""How soon a worker that holds all it may looks whether it may hold more."""
PAUSED_SECONDS = 0.2
"""How soon a worker takes up again once it may."""
FAULT_SECONDS = 1.0
STILL_SECONDS = 30.0
"""A take-up loop that has not moved for so long is stuck."""

Begin = Callable[[Hold, AllocationRequest, float], Leg | None]
"""Begins one, whose lease counts from then on on the loop's clock; see `takeup.Begin`."""


class Intake:
    """One worker's. `room` says how many more may come at this moment; once `draining` is set none do."""

    def __init__(self, parts: Parts, *, room: Callable[[], int], begin: Begin, draining: asyncio.Event) -> None:
        self.coming = 0
        """How many were read and have not been begun, nor refused."""
        self.room_changed = asyncio.Event()
        self._parts = parts
        self._room = room
        self._begin = begin
        self._draining = draining
        self._is_quiet = False
        self._takes = 0
        """Reads by priority so far: which goes first follows from them alone, not from turns that only wait."""
        self._moved_at = 0.0
        self._reserving: asyncio.Task[None] | None = None

    @property
    def moving(self) -> bool:
        """Whether the loop moves; a broker that is away does not stop it, nor does a full backlog."""
        return self._parts.insist.is_away or self._parts.loop.time() - self._moved_at < STILL_SECONDS

    def moved(self) -> None:
        """It does."""
        self._moved_at = self._parts.loop.time()

    async def run(self) -> None:
        """Read until the drain; what is being reserved by then is begun."""
        try:
            while not self._draining.is_set():
                await self._turn()
            await self._reserved()
        finally:
            if self._reserving is not None:
                self._reserving.cancel()
                await asyncio.wait([self._reserving])

    async def take_up(self, entries: Sequence[Entry]) -> None:
        """Reserve entries that were read, here or by a worker that is gone, and begin them."""
        since = self._parts.loop.time()
        for start in range(0, len(entries), BATCH_MAX):
            batch = entries[start : start + BATCH_MAX]
            await take_up(batch, self._parts, lambda hold, request: self._begin(hold, request, since))

    async def _turn(self) -> None:
        self.moved()
        try:
            if self._parts.paused:
                await _within(PAUSED_SECONDS, self._draining.wait())
            elif (room := min(self._room(), TAKE_MAX)) > 0:
                await self._take(room)
            else:
                self.room_changed.clear()
                await _within(FULL_SECONDS, self.room_changed.wait())
        except BrokerUnavailable as trouble:
            self._parts.insist.away("take", trouble)
            await asyncio.sleep(0.05 + 0.2 * self._parts.chance.random())
        except Exception as error:  # noqa: BLE001 - one bad turn must not end the take-up
            self._parts.observe(Crashed("take", error))
            await asyncio.sleep(FAULT_SECONDS)

    async def _take(self, room: int) -> None:
        broker, entries = self._parts.broker, list[Entry]()
        if not self._is_quiet:
            self._takes += 1
            entries = await broker.take(room, order_of(self._takes, low_waits=True))
        if not entries:
            entries = await broker.wait(room)
            # where no stream can have given its share, nothing is left that is to be read by priority
            self._is_quiet = len(entries) < max(1, room // len(Priority))
        self._parts.insist.back()
        if not entries:
            return
        self.coming += len(entries)
        await self._reserved()
        while self._parts.paused:
            # Read as the pause came: they stay pending, for us or whoever finds them once it is over.
            if self._draining.is_set():
                self.coming -= len(entries)
                return
            await _within(PAUSED_SECONDS, self._draining.wait())
            self.moved()
        if len(entries) < room:  # nothing is left to be read meanwhile: what comes now is read together
            await self._reserve(entries)
        else:
            self._reserving = self._parts.loop.create_task(self._reserve(entries))

    async def _reserve(self, entries: Sequence[Entry]) -> None:
        try:
            await self.take_up(entries)
        except Exception as error:  # noqa: BLE001 - as in a turn; they come again as strays
            self._parts.observe(Crashed("take", error))
            await asyncio.sleep(FAULT_SECONDS)
        finally:
            self.coming -= len(entries)
            self.room_changed.set()

    async def _reserved(self) -> None:
        """Wait until those that were read before are ours, or somebody's."""
        if self._reserving is not None:
            await asyncio.wait([self._reserving])
            self._reserving = None


async def _within(seconds: float, waiting: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return
