"""Time as the simulator sees it: passed in, so that a test moves it instead of sleeping.

In: nothing. Out: monotonic seconds (rates, ttl, late landings), wall seconds (what answers say), and a sleep
(latency). It promises nothing of its own; `Clock()` is the machine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the simulator reads time, and how it waits."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
