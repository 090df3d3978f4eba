"""Asking servers that know where others are: sentinels, and the nodes of a cluster.

In: wires, one question. Out: their answers, as soon as enough have come. Promises: one that is dead or hangs holds
nobody up; a watch asks again every second for as long as the connection lives, so that a server that hangs while its
successor serves does not hold its callers until they give up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from allocator.redis_io.errors import RedisFault, Unavailable
from allocator.redis_io.wire import Command, Wire, only

ANSWER_SECONDS = 2.0
WATCH_SECONDS = 1.0

Answer = tuple[Wire, Any]


async def ask(wires: Iterable[Wire], question: Command, *, others_seconds: float) -> list[Answer]:
    """Ask all at once; what came until `others_seconds` after the first answer. The fault is raised where none came."""
    loop = asyncio.get_running_loop()
    asked = {loop.create_task(wire.roundtrip((question,))): wire for wire in wires}
    pending: set[asyncio.Task[list[Any]]] = set(asked)
    answers: list[Answer] = []
    faults: list[RedisFault] = []
    until = loop.time() + ANSWER_SECONDS
    try:
        while pending and (left := until - loop.time()) > 0:
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                try:
                    answers.append((asked[each], only(each.result())))
                except RedisFault as fault:
                    faults.append(fault)
            if answers:
                until = min(until, loop.time() + others_seconds)
    finally:
        for each in pending:
            each.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if not answers:
        # One that answered, and said no, tells more than those that are away.
        faults.sort(key=lambda fault: isinstance(fault, Unavailable))
        raise faults[0] if faults else Unavailable("no server answered in time", kind="timeout")
    return answers


class Watch:
    """Looks again and again, from the first call that needs it until it is ended."""

    def __init__(self, look: Callable[[], Awaitable[object]]) -> None:
        self._look = look
        self._loop: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look from now on."""
        if self._loop is None or self._loop.done():
            self._loop = asyncio.get_running_loop().create_task(self._again_and_again(), name="redis watch")

    async def end(self) -> None:
        """Look no more."""
        while self._loop is not None and not self._loop.done():
            self._loop.cancel()
            # And again: redis-py swallows a cancellation that comes while it connects.
            await asyncio.wait((self._loop,), timeout=0.05)

    async def _again_and_again(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with contextlib.suppress(RedisFault):
                await self._look()
