"""How fast a vendor admits calls, and how fast it was asked to.

In: monotonic seconds, never going back. Out: whether a call is admitted, and the most events that any rolling
second has seen. Both cost the same however long the simulator has run.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol


class Pace(Protocol):
    """The settings of a limit."""

    @property
    def starts_per_second(self) -> float | None:
        """None admits all."""

    @property
    def burst(self) -> int:
        """Taken over the rate in one window."""

    @property
    def window(self) -> Literal["sliding", "fixed"]:
        """Whether the limit holds in any second, or in each second of the clock."""


class StartLimit:
    """Admits at most so many starts in any second (`sliding`), or in each second of the clock (`fixed`)."""

    def __init__(self) -> None:
        self._admitted: deque[float] = deque()
        self._window_at = -1
        self._in_window = 0

    def admits(self, now: float, pace: Pace) -> bool:
        """Count one start where the limit has room for it; a start that is refused costs nothing."""
        rate = pace.starts_per_second
        if rate is None:
            return True
        # Under one a second no window of a second can say the rate: one start in a longer window does.
        window_seconds = max(1.0, 1.0 / rate)
        starts_max = max(1, int(rate)) + pace.burst
        if pace.window == "fixed":
            return self._admits_fixed(int(now // window_seconds), starts_max)
        while self._admitted and self._admitted[0] <= now - window_seconds:
            self._admitted.popleft()
        if len(self._admitted) >= starts_max:
            return False
        self._admitted.append(now)
        return True

    def _admits_fixed(self, window_at: int, starts_max: int) -> bool:
        if window_at != self._window_at:
            self._window_at, self._in_window = window_at, 0
        if self._in_window >= starts_max:
            return False
        self._in_window += 1
        return True


class RollingPeak:
    """The most events that any rolling second has seen."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self.per_second_max = 0

    def add(self, now: float) -> None:
        """Count one event."""
        recent = self._recent
        recent.append(now)
        while recent[0] <= now - 1.0:
            recent.popleft()
        self.per_second_max = max(self.per_second_max, len(recent))
