"""Time to some hundredths of a millisecond: uvloop's own clock and timers count whole milliseconds.

In: a moment on the monotonic clock. Out: a return at that moment or right after it. The waits are the operating
system's alarm: a thread that sleeps for the loop costs twice the CPU and comes three times as late, and of the core
that bench, server and provider share there is none to spare.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Self

SHORTEST_SECONDS = 1e-6
"""An alarm in less is none."""


class Pace:
    """The monotonic clock of this machine; entered, by the main thread, it has the one alarm of this process."""

    def __init__(self) -> None:
        self._rung: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, self._ring)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGALRM)

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    async def until(self, moment: float) -> None:
        """Return then, or at once if it has passed."""
        while (seconds := moment - self.now()) > 0:
            self._rung = asyncio.get_running_loop().create_future()
            signal.setitimer(signal.ITIMER_REAL, max(seconds, SHORTEST_SECONDS))
            await self._rung

    def _ring(self) -> None:
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)
