"""The line of those whose processing may have ended workers: whatever ends one is not to end the others' work as well.

In: holds that were taken more than `SUSPECT_TAKES` times. Out: leave to go on, to one after the other. Promises: a take
after a lapsed lease counts from its turn on, so a death costs nobody who still stands in line; who would be buried for
the next death is alone, so nobody is buried for another's fault; and nobody holds the line up for longer than its time,
whatever it waits for. Less is promised of one that was parked: called in, its take counts before its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from allocator.broker.broker import Broker, Hold
from allocator.engine.insist import Insistence

POISON_TAKES_MAX = 6
"""The first take, and one for each worker that processing the request may end: the contract allows five."""
ALONE_SECONDS = 0.25
"""What ends a worker does so at once, as a rule; who waits for a provider is not to hold up hundreds meanwhile."""
LAST_ALONE_SECONDS = 10.0
"""More than a provider has for an answer: nobody else is at it when it has its last chance."""


@dataclass(frozen=True, slots=True)
class _Turn:
    alone_until: float
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Suspects:
    """One worker's line."""

    def __init__(self, broker: Broker, insist: Insistence) -> None:
        self._broker = broker
        self._insist = insist
        self._line = asyncio.Lock()
        self._turns: list[_Turn] = []
        """Of those who have not ended yet, the first first."""

    @asynccontextmanager
    async def turn(self, hold: Hold) -> AsyncIterator[bool]:
        """Wait for its turn and count the take; False where the request is someone else's by then.

        It waits until the deadline at most: then nothing is called any more, and there is nothing to count.
        """
        left_seconds = (hold.deadline_ms - self._broker.now_ms()) / 1000
        is_last, turn, ours = hold.takes >= POISON_TAKES_MAX, None, True
        try:
            async with asyncio.timeout(max(0.0, left_seconds)), self._line:
                await self._alone(is_last=is_last)
                ours = await self._insist("begin", lambda: self._broker.begin(hold))
                turn = _Turn(asyncio.get_running_loop().time() + (LAST_ALONE_SECONDS if is_last else ALONE_SECONDS))
                self._turns.append(turn)
        except TimeoutError:
            pass
        try:
            yield ours
        finally:
            if turn is not None:
                turn.over.set()
                self._turns.remove(turn)

    async def _alone(self, *, is_last: bool) -> None:
        """Wait for those before, each as long as it may be alone; for its last chance until they have ended."""
        patience_ends = asyncio.get_running_loop().time() + LAST_ALONE_SECONDS
        for turn in list(self._turns):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(patience_ends if is_last else turn.alone_until):
                    await turn.over.wait()
