"""Waits until what a start has made is ready: one process's pending deployments, looked at together.

In: the id of a deployment, hints of webhooks. Out: where one is that is ready, or why it never will be. All who wait
look at the same moments, so that the lookout asks for them in as few calls as they fill. A hint only makes one look at
once, for what it says may be anyone's invention. What is not ready may have failed, which a list does not show: after
a hint, and else now and then, its status is asked for instead, where there is leave to spare. What follows is left to
others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from allocator.providers.edgegap.lookout import By, Lookout
from allocator.providers.edgegap.wire import Described, Status, is_reached, state_of
from allocator.providers.provider import LookupFailed, SessionState

LOOK_SECONDS = 0.5
LOOK_WHEN_BUSY_SECONDS = 1.0
"""Between the looks, and where the calls of the fleet are close to their limit: what is ready is to be told in 2 s."""
DOUBT_SECONDS = 4.0
"""What is not ready so long after its start, or after its status was asked for, may have failed."""

Look = Callable[[str], Awaitable[Status | LookupFailed | None]]
"""Asks for the status of one deployment; None where there is no leave to spare."""


@dataclass(frozen=True, slots=True)
class Ready:
    """It is ready, and this is where."""

    found: Described


@dataclass(frozen=True, slots=True)
class NeverReady:
    """It failed, or it was not ready in time."""

    message: str


class Follower:
    """The pending deployments of one process."""

    def __init__(self, lookout: Lookout, look: Look) -> None:
        self._lookout = lookout
        self._look = look
        self._pending: dict[str, asyncio.Event] = {}
        self._doubting = asyncio.Lock()

    @property
    def pending(self) -> int:
        """How many are waited for."""
        return len(self._pending)

    def hint(self, request_id: str) -> None:
        """Something may have changed: look at once. An id that nobody waits for is passed over."""
        if (hinted := self._pending.get(request_id)) is not None:
            hinted.set()

    async def ready(self, request_id: str, seconds: float) -> Ready | NeverReady:
        """Wait until it is ready, at most so long."""
        hinted = self._pending[request_id] = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(request_id, hinted)
        except TimeoutError:
            return NeverReady(f"not ready within {seconds:.3g} s (edgegap.ready_timeout_seconds); it is stopped")
        finally:
            del self._pending[request_id]

    async def _follow(self, request_id: str, hinted: asyncio.Event) -> Ready | NeverReady:
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            status = await self._look(request_id) if await self._is_hinted(hinted) else None
            settled = await self._listed(request_id) if status is None else _settled(status)
            if settled is None and loop.time() - looked_at >= DOUBT_SECONDS and not self._doubting.locked():
                # one at a time: the others look again before their turn would come
                async with self._doubting:
                    looked_at = loop.time()
                    settled = _settled(await self._look(request_id))
            if settled is not None:
                return settled

    async def _listed(self, request_id: str) -> Ready | NeverReady | None:
        rows = await self._lookout.rows(By.REQUEST_ID, request_id)
        if isinstance(rows, LookupFailed):
            return None
        return next((Ready(row) for row in rows if row.ready and is_reached(row)), None)

    async def _is_hinted(self, hinted: asyncio.Event) -> bool:
        """Wait for a hint or the next moment at which all look; whether it was a hint."""
        every = LOOK_WHEN_BUSY_SECONDS if self._lookout.waits_long else LOOK_SECONDS
        rest_seconds = every - asyncio.get_running_loop().time() % every
        if rest_seconds < every / 10:  # a timer may ring a little early
            rest_seconds += every
        try:
            async with asyncio.timeout(rest_seconds):
                await hinted.wait()
        except TimeoutError:
            return False
        hinted.clear()
        return True


def _settled(status: Status | LookupFailed | None) -> Ready | NeverReady | None:
    """What has become of it; None where that is still open."""
    if not isinstance(status, Status):
        return None
    match state_of(status):
        case SessionState.ALIVE if is_reached(status):
            return Ready(status)
        case SessionState.ENDED:
            return NeverReady(f"the deployment failed: {status.error_detail or status.current_status}")
    return None
