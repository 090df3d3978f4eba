"""What durations are counted by: uvloop's own clock counts whole milliseconds, as of when its turn began.

In: the running loop. Out: a clock to a microsecond; of any other loop it is its own, which may be a virtual one.
Moments that are compared with the loop's, leases and deadlines, stay on the loop's clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def fine_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Seconds since any moment, for differences alone."""
    return time.monotonic if type(loop).__module__.partition(".")[0] == "uvloop" else loop.time
