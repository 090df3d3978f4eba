"""Time to a tenth of a millisecond: uvloop's own clock and timers count whole milliseconds, and a shorter wait spins.

In: a moment on the monotonic clock. Out: a return at that moment or right after it. Most of a long wait is left to the
loop, so that it can be broken off; a thread sleeps the rest.
"""

from __future__ import annotations

import asyncio
import time

THREAD_SECONDS = 0.003
"""How much of a wait is left to the thread."""


class Pace:
    """The monotonic clock of this machine."""

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    async def until(self, moment: float) -> None:
        """Return then, or at once if it has passed."""
        if (seconds := moment - self.now()) > THREAD_SECONDS:
            await asyncio.sleep(seconds - THREAD_SECONDS)
        if (seconds := moment - self.now()) > 0:
            await asyncio.to_thread(time.sleep, seconds)
