"""Permits at hand: given for this moment to whoever comes in the next, so that a busy lane's matches wait for none.

In: how many a lane serves, and what the gate gave beyond those who waited. Out: how many more to ask for, and a permit
for one who comes. What nobody uses is lost to the fleet: none is asked for ahead where matches come seldom or the rate
is used up, and none is kept for longer than it is good for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from allocator.engine.progress import LATE_SECONDS

USUAL_SECONDS = LATE_SECONDS / 2
"""So many are kept as were served in this time: they are used up well before they are late."""
LEAST = 4
"""Fewer are not worth a permit that may be lost."""
EARLY_SECONDS = 0.002
"""How far ahead the last of them may be due: a lane gets no more than its rate brings in this time."""


class Stock:
    """One lane's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.may_ask = True
        """Not where the destination is doubted: who calls it then has to know, and tells what came of it."""
        self._due: deque[float] = deque()
        self._usual = 0
        self._served = 0
        self._counted_from = loop.time()

    @property
    def at_hand(self) -> bool:
        """Whether there may be one."""
        return bool(self._due)

    @property
    def is_low(self) -> bool:
        """Whether half of what is usual has been used."""
        return len(self._due) * 2 <= self._usual

    def served(self) -> None:
        """The lane has served one."""
        self._served += 1

    def lacks(self, rate: float | None) -> int:
        """How many to ask for beyond those who wait; `rate` is what the lane may give a second."""
        now = self._loop.time()
        if (seconds := now - self._counted_from) >= USUAL_SECONDS:
            self._usual = int(self._served * USUAL_SECONDS / seconds)
            self._served, self._counted_from = 0, now
        usual = self._usual if rate is None else min(self._usual, int(rate * EARLY_SECONDS))
        self._drop_late(now)
        return usual - len(self._due) if self.may_ask and usual >= LEAST and self.is_low else 0

    def put(self, due_at: Iterable[float]) -> None:
        """Keep permits that nobody waited for."""
        if self.may_ask:
            self._due.extend(due_at)

    def take(self) -> bool:
        """Use one, where one is good now."""
        now = self._loop.time()
        self._drop_late(now)
        if not self._due or self._due[0] > now:
            return False
        self._due.popleft()
        return True

    def take_all(self) -> list[float]:
        """Use all that are good or will be, by when they are due."""
        self._drop_late(self._loop.time())
        due, self._due = list(self._due), deque()
        return due

    def void(self) -> None:
        """Keep none: what they were given for holds no more."""
        self._due.clear()

    def _drop_late(self, now: float) -> None:
        while self._due and now - self._due[0] > LATE_SECONDS:
            self._due.popleft()
