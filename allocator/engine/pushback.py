"""What a push-back meant: that starts came too fast, or that the destination is full. Found out once for the fleet.

In: a lane that a call was pushed back from. Out: `Verdict.THROTTLED` or `FULL`, or None where nobody can tell. The
first of the fleet to ask is sent to the provider, whose list of locations with room tells the two apart; all others
wait for its word, which holds for a few seconds. A request that can go on to another destination does not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from allocator.contract.destination import Destination
from allocator.engine.lane import Lane
from allocator.engine.lookups import LookUps
from allocator.engine.observer import Crashed, Observer
from allocator.gate.gate import Gate, GateUnavailable, Verdict
from allocator.providers.provider import LookupFailed

ASK_SECONDS = 2.0
AGAIN_SECONDS = 0.05
AGAIN_MAX = 40
"""Others find out within two seconds, or nobody does."""


class Judgement:
    """One process's part in it: calls that are pushed back together ask together."""

    def __init__(self, gate: Gate, look_ups: LookUps, observe: Observer) -> None:
        self._gate = gate
        self._look_ups = look_ups
        self._observe = observe
        self._asking: dict[Destination, asyncio.Task[Verdict | None]] = {}
        self._following: set[asyncio.Task[None]] = set()

    def begin(self, following: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let what follows from a push-back go on beside the request."""
        task = asyncio.get_running_loop().create_task(following)
        self._following.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Let go of what is not known yet: it is the next worker's to find out."""
        left = [*self._following, *self._asking.values()]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._following.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observe(Crashed("push-back", error))

    async def of(self, lane: Lane, image: str) -> Verdict | None:
        """Find out, or hear what others have."""
        destination = lane.destination
        asking = self._asking.get(destination)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._find_out(lane, image))
            self._asking[destination] = asking
            asking.add_done_callback(lambda _: self._asking.pop(destination, None))
        return await asyncio.shield(asking)

    async def _find_out(self, lane: Lane, image: str) -> Verdict | None:
        try:
            for _ in range(AGAIN_MAX):
                match await self._gate.verdict(lane.own):
                    case Verdict.ASK:
                        found = await self._ask(lane.destination, image)
                        if found is not None:
                            await self._gate.judge(lane.own, found)
                        return found
                    case Verdict.ASKING:
                        await asyncio.sleep(AGAIN_SECONDS)
                    case known:
                        return known
        except GateUnavailable:
            return None
        return None

    async def _ask(self, destination: Destination, image: str) -> Verdict | None:
        offered = await self._look_ups.offers(
            destination.provider, image, permit_seconds=ASK_SECONDS, timeout_seconds=ASK_SECONDS
        )
        if isinstance(offered, LookupFailed):
            return None
        return Verdict.THROTTLED if offered.has_room(destination.location) else Verdict.FULL
