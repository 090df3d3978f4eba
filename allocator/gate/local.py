"""What this one process may ever send to one destination, whatever the fleet's gate says.

In: a rate. Out: an `acquire` that waits. It is the belt to the fleet's braces: with a Redis whose clock jumps or whose
state is lost, a process still never sends more than the destination's whole rate in any second.
"""

from __future__ import annotations

import asyncio
import math

from asyncio_throttle.throttler import Throttler

SHORTEST_SLEEP_SECONDS = 1e-6
"""Less may not move the loop's clock: the sleep would end at once and be asked for again, for ever."""


class ProcessCap(Throttler):
    """At most `rate` (and a burst) in any second of the loop's clock; waiters are served in turn.

    The plain Throttler polls every 10 ms for each waiter on the wall's monotonic clock; here a waiter sleeps just as
    long as it must, on the loop's clock, so that virtual time holds too. One waiter at a time: the lane's pump.
    """

    def __init__(self, rate: float, burst: int = 1) -> None:
        super().__init__(rate_limit=max(1, math.ceil(rate)) + burst - 1, period=1.0)
        self._loop = asyncio.get_running_loop()

    def flush(self) -> None:
        """Forget what is over a period old."""
        oldest = self._loop.time() - self.period
        while self._task_logs and self._task_logs[0] <= oldest:
            self._task_logs.popleft()

    def take_one(self) -> bool:
        """Count one more, where it may be sent now."""
        self.flush()
        if len(self._task_logs) >= self.rate_limit:
            return False
        self._task_logs.append(self._loop.time())
        return True

    async def acquire(self) -> None:
        """Wait until one more may be sent, and count it."""
        self.flush()
        while len(self._task_logs) >= self.rate_limit:
            await asyncio.sleep(max(self._task_logs[0] + self.period - self._loop.time(), SHORTEST_SLEEP_SECONDS))
            self.flush()
        self._task_logs.append(self._loop.time())
