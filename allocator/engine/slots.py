"""How many calls a process may have out at once, shared by its lanes; whoever waits is served in turn."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """A counter with waiters: `acquire` takes as many as there are, at least one."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiters: deque[tuple[int, asyncio.Future[int]]] = deque()

    @property
    def free(self) -> int:
        """How many more calls may go out."""
        return self._free

    def take_one(self) -> bool:
        """Take one, where one is free and nobody waits."""
        if self._free <= 0 or self._waiters:
            return False
        self._free -= 1
        return True

    async def acquire(self, wanted: int) -> int:
        """Take up to `wanted`, at least one, waiting behind those who came before."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((wanted, waiter))
        self._serve()
        if waiter.done():
            return waiter.result()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(waiter.result())
            raise

    def release(self, count: int) -> None:
        """Give slots back."""
        self._free += count
        self._serve()

    def _serve(self) -> None:
        """Hand what is free to those who wait: given here and not merely told of, so that nobody can come between."""
        while self._free > 0 and self._waiters:
            wanted, waiter = self._waiters.popleft()
            if not waiter.done():
                taken = min(wanted, self._free)
                self._free -= taken
                waiter.set_result(taken)
