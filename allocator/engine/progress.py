"""How a lane gets on: whether those who wait in it wait for this process, or for what is not its to hasten.

In: what the gate gave and when, and whom the lane served. Out: two answers on the loop's clock, and nothing kept beyond
the last few rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

LATE_SECONDS = 0.04
"""A permit used later than this would crowd the next ones: at 60 a second it adds 2.4 to a rolling second's count."""
SOON_SECONDS = 0.001
"""A rate that gives the first permit within this time has more to give than is asked for."""
STILL_SECONDS = 0.5
"""A lane that has served nobody for so long, while some wait, waits for calls that hang."""


class Progress:
    """Of one lane."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._usual_seconds = LATE_SECONDS
        """What the gate takes to answer, of late."""
        self.is_rationed = False
        """Whether the gate gave fewer than it was asked for, or later, for the rate's sake."""
        self._moved_at = self._loop.time()

    @property
    def is_held_back(self) -> bool:
        """Whether who waits would wait in any other process as well: for the rate, or for calls that hang."""
        return self.is_rationed or self._loop.time() - self._moved_at > STILL_SECONDS

    def moved(self) -> None:
        """Somebody was served, or came where nobody waited."""
        self._moved_at = self._loop.time()

    def given(self, asked: int, offsets_seconds: Sequence[float]) -> None:
        """The gate gave permits for these moments."""
        self.is_rationed = len(offsets_seconds) < asked or offsets_seconds[0] > SOON_SECONDS

    def was_held_up(self, seconds: float) -> bool:
        """Whether the gate took longer for its answer than it does of late."""
        longer = seconds - self._usual_seconds
        self._usual_seconds += longer / 4
        return longer > LATE_SECONDS
