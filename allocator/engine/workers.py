"""The workers of one process, one for each partition of its namespace, run as one.

In: workers that share lanes, gate and providers. Out: what a single worker shows. Promises: where the records of one
partition cannot be reached, the others are served; what is done once for the process is done by whichever of them
comes first, and what each counts of the sessions is told as one sum.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from allocator.engine.observer import Event, Observer, Reconciled
from allocator.engine.worker import Worker

Step = Callable[[], Awaitable[None]]


class Workers:
    """See the module; with one partition it is its worker."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)

    @property
    def ready(self) -> bool:
        """Whether requests of any partition can be taken up."""
        return any(worker.ready for worker in self._workers)

    @property
    def moving(self) -> bool:
        """Whether every take-up loop moves."""
        return all(worker.moving for worker in self._workers)

    @property
    def held(self) -> int:
        """How many requests are on their way here."""
        return sum(worker.held for worker in self._workers)

    async def run(self) -> None:
        """Serve until `drain` has ended everywhere; what one of them raises ends all."""
        running = [asyncio.get_running_loop().create_task(worker.run()) for worker in self._workers]
        try:
            await asyncio.gather(*running)
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def drain(self) -> None:
        """Take nothing more anywhere."""
        for worker in self._workers:
            worker.drain()


def in_turns(seconds: float, act: Step) -> Step:
    """Let several ask for a step that is to be done about every so many seconds, once for all of them."""
    begun_at = float("-inf")

    async def step() -> None:
        nonlocal begun_at
        now = asyncio.get_running_loop().time()
        if now - begun_at > seconds / 2:
            begun_at = now
            await act()

    return step


def summed(observe: Observer, count: int) -> list[Observer]:
    """An observer for each partition: what their passes over the sessions count is told as the sum of the last ones."""
    last: dict[int, Reconciled] = {}

    def observer_of(number: int) -> Observer:
        def hear(event: Event) -> None:
            if isinstance(event, Reconciled):
                last[number] = event
                orphans: Counter[str] = Counter()
                for each in last.values():
                    orphans.update(each.orphans)
                condemned_alive = sum(each.condemned_alive for each in last.values())
                event = replace(event, orphans=dict(orphans), condemned_alive=condemned_alive)
            observe(event)

        return hear

    return [observe] if count == 1 else [observer_of(number) for number in range(count)]
