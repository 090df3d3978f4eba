"""Many deadlines on one timer of the loop: nearly all of them are called off before they come.

In: what is to be ended, and when. Out: its `expire`, once, at its moment or up to a millisecond before. Promised: what
was called off is not ended. A timer of the loop for each would cost three times as much to set and to cancel.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

SLACK_SECONDS = 0.001
"""uvloop counts in whole milliseconds: a timer may fire that much before its moment."""


class Due(Protocol):
    """What ends at a moment on the loop's clock."""

    @property
    def due_at(self) -> float:
        """When."""
        ...

    def expire(self) -> None:
        """End it."""
        ...


class Deadlines:
    """Those of one kind; few are set to come before one that was set earlier."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Due, None] = {}
        """In the order in which they were set, so that those of one moment end in it."""
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = float("inf")

    def set(self, due: Due) -> None:
        """End it once its moment has come."""
        self._waiting[due] = None
        if due.due_at < self._wakes_at:
            self._wake_at(due.due_at)

    def call_off(self, due: Due) -> None:
        """Do not end it; harmless where it has ended."""
        self._waiting.pop(due, None)

    def _wake_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = moment
        self._timer = self._loop.call_at(moment, self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, float("inf")
        now = self._loop.time() + SLACK_SECONDS
        for due in [each for each in self._waiting if each.due_at <= now]:
            if due in self._waiting:  # one before it may have called it off
                del self._waiting[due]
                due.expire()
        if self._waiting:
            self._wake_at(min(each.due_at for each in self._waiting))
