"""What is asked for in one turn of the event loop goes out in one call.

In: items, one at a time, from many coroutines. Out: to each its own result. Promises: items go out in the order in
which they came, in calls of at most `items_max`; at most `in_flight_max` calls are out at once, and what comes
meanwhile gathers for the next, so that calls grow with the load and a lone item never waits for company. A call that
fails fails its own items and no others. How many items may wait is bounded by the callers, who each wait for theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Gathers items into calls of `run`, which takes a list and returns a result for each, in order."""

    def __init__(
        self, run: Callable[[list[T]], Awaitable[Sequence[R]]], *, items_max: int = 256, in_flight_max: int = 4
    ) -> None:
        if items_max < 1 or in_flight_max < 1:
            raise ValueError("items_max and in_flight_max must be at least 1")
        self._run = run
        self._items_max = items_max
        self._in_flight_max = in_flight_max
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._is_due = False
        """Whether a call is about to begin."""
        self._closed = False

    def submit(self, item: T) -> asyncio.Future[R]:
        """Send this item with the others of this turn; awaiting what is returned gives its result.

        Cancelled before its call goes out, an item is not sent; later, it is sent and its result is dropped.
        """
        if self._closed:
            raise RuntimeError("the batcher is closed: nothing more can be submitted")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._is_due:
            self._call_soon()
        return future

    async def aclose(self) -> None:
        """Take nothing more, and wait until everything that was submitted has its result."""
        self._closed = True
        while self._waiting or self._calls:
            if self._calls:
                await asyncio.wait(self._calls)
            await asyncio.sleep(0)

    def _call_soon(self) -> None:
        """See that a call begins once this turn of the loop is over; it takes along what has gathered until then."""
        if not self._is_due and len(self._calls) < self._in_flight_max:
            self._is_due = True
            call = asyncio.get_running_loop().create_task(self._call())
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if self._waiting:
            self._call_soon()

    async def _call(self) -> None:
        self._is_due = False
        items: list[T] = []
        futures: list[asyncio.Future[R]] = []
        while self._waiting and len(items) < self._items_max:
            item, future = self._waiting.popleft()
            if not future.done():
                items.append(item)
                futures.append(future)
        if self._waiting:
            self._call_soon()
        if not items:
            return
        try:
            results = _one_for_each(items, await self._run(items))
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who wait for these items
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():
                future.set_result(result)


def _one_for_each(items: list[T], results: Sequence[R]) -> Sequence[R]:
    if len(results) != len(items):
        raise RuntimeError(f"{len(results)} results for {len(items)} items: one for each is asked for")
    return results
