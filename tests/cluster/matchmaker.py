"""A matchmaker that asks at an even rate and, as the contract tells it, sends again what got no answer."""

from __future__ import annotations

import asyncio
import time

from allocator.client import Allocation, AllocatorClient, Unavailable

END_SECONDS = 90.0
AGAIN_SECONDS = 4.0
"""After so long a match is sent again: what a promoted replica had not got yet is nobody's any more."""


class Matchmaker:
    """Asks for matches by numbers and remembers when each end came."""

    def __init__(self, client: AllocatorClient) -> None:
        self.ended: list[tuple[Allocation, float]] = []
        self._client = client

    async def ask(self, matches: int, a_second: float) -> list[Allocation]:
        """The end of each, asked for one after the other."""
        asked = []
        for number in range(matches):
            asked.append(asyncio.create_task(self._ask(number)))
            await asyncio.sleep(1 / a_second)  # the load's pace
        return await asyncio.gather(*asked)

    async def _ask(self, number: int) -> Allocation:
        request = {"id": f"m-{number}", "image": "g", "regions": ["europe"], "timeout_seconds": 60}
        async with asyncio.timeout(END_SECONDS):
            while True:
                try:
                    end = await self._client.allocate(request, timeout_seconds=AGAIN_SECONDS)
                except Unavailable:
                    await asyncio.sleep(0.05)  # a client's pause before it tries again
                except TimeoutError:
                    pass  # sent again
                else:
                    self.ended.append((end, time.monotonic()))
                    return end
