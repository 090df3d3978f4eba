"""Asking a broker that may be away: the same step again, with jitter, until it answers.

In: a step that is harmless to repeat. Out: its answer. What is finished waits in memory meanwhile; who listens is told
once when the broker goes and once when it is back, not for every try.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from allocator.broker.broker import BrokerUnavailable
from allocator.engine.observer import BrokerBack, BrokerTrouble, Observer

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 1.0


class Insistence:
    """Repeats steps for all of one process, so that one outage is told as one."""

    def __init__(self, observe: Observer, chance: random.Random) -> None:
        self._observe = observe
        self._chance = chance
        self._away_since: float | None = None

    async def __call__(self, step: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Repeat `ask` until the broker answers; a cancellation ends it."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = await ask()
            except BrokerUnavailable as trouble:
                self.away(step, trouble)
                await asyncio.sleep(pause * (0.5 + self._chance.random()))
                pause = min(pause * 2, LAST_PAUSE_SECONDS)
            else:
                self.back()
                return answer

    @property
    def is_away(self) -> bool:
        """Whether the broker was not to be asked when it was tried last."""
        return self._away_since is not None

    def away(self, step: str, trouble: BrokerUnavailable) -> None:
        """The broker did not answer."""
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            self._observe(BrokerTrouble(step, trouble.kind, str(trouble)))

    def back(self) -> None:
        """The broker answered."""
        if self._away_since is not None:
            away_seconds = asyncio.get_running_loop().time() - self._away_since
            self._away_since = None
            self._observe(BrokerBack(away_seconds))
