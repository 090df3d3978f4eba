"""Reads the fleet in the background, while somebody looks at the console.

In: how a `Looker` is opened. Out: what was read last, at once, as one JSON object: that of `allocator watch --json`
with `age_seconds` (null: nothing is read yet) and, where Redis could not be asked since, `error`. Promises: no answer
waits for Redis; however many look, it is read once a second at most; the connection is opened when the first one looks
and closed `IDLE_SECONDS` after the last one did, and what was read is forgotten then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from allocator.contract.allocation import compact
from allocator.redis_io.errors import RedisUrlError
from allocator.service.look import UNREACHABLE, Look
from allocator.telemetry.structured import structlog

READ_SECONDS = 1.0
IDLE_SECONDS = 10.0

_log = structlog.get_logger("allocator")


class Looks(Protocol):
    """A `Looker`."""

    async def look(self) -> Look:
        """Look once. Raises `UNREACHABLE`."""
        ...


class Reader:
    """One process's. `opened` gives a looker over a connection of its own."""

    def __init__(
        self, opened: Callable[[], AbstractAsyncContextManager[Looks]], *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._opened = opened
        self._idle_seconds = idle_seconds
        self._asked_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False
        self._body: str | None = None
        self._read_at = 0.0
        self._error: str | None = None

    @property
    def is_reading(self) -> bool:
        """Whether somebody looked lately."""
        return self._reading is not None

    def ask(self) -> str:
        """What was read last; the next is being read from now on, if it was not."""
        loop = asyncio.get_running_loop()
        self._asked_at = loop.time()
        if self._reading is None and not self._is_closed:
            self._reading = loop.create_task(self._read_on())
        about: dict[str, Any] = {"age_seconds": None if self._body is None else round(loop.time() - self._read_at, 3)}
        if self._error is not None:
            about["error"] = self._error
        head = compact(about)
        # Put together as texts: of many regions it is much, and written down once for all who ask.
        return head if self._body is None else f"{head[:-1]},{self._body[1:]}"

    async def aclose(self) -> None:
        """Read no more."""
        self._is_closed = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read_on(self) -> None:
        try:
            while self._is_wanted():
                await self._open()
        finally:
            self._reading = self._body = self._error = None

    async def _open(self) -> None:
        """Read until nobody looks, or something goes wrong that a new connection may mend."""
        try:
            async with self._opened() as looker:
                while self._is_wanted():
                    await self._read(looker)
        except (*UNREACHABLE, RedisUrlError) as error:
            self._error = str(error)
            await asyncio.sleep(READ_SECONDS)
        except Exception as error:  # noqa: BLE001 - a console that cannot read must say so, and not be silent
            fault = f"the fleet cannot be read: {type(error).__name__}; the log has more"
            if fault != self._error:
                _log.error("console cannot read", exc_info=error)
            self._error = fault
            await asyncio.sleep(READ_SECONDS)

    async def _read(self, looker: Looks) -> None:
        """Read once, and take the rest of the second to it."""
        loop = asyncio.get_running_loop()
        again_at = loop.time() + READ_SECONDS
        try:
            look = await looker.look()
        except UNREACHABLE as error:
            self._error = str(error)
        else:
            self._body, self._read_at, self._error = compact(look.to_data()), loop.time(), None
        await asyncio.sleep(max(0.0, again_at - loop.time()))

    def _is_wanted(self) -> bool:
        return asyncio.get_running_loop().time() - self._asked_at < self._idle_seconds
