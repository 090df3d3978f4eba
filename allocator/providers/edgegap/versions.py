"""How long deployments live, by application and version.

In: names of an application and a version. Out: how long a deployment of it lives at most. That is its
version's to say and no start tells it, so that it is asked for once and remembered for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from allocator.providers.edgegap.wire import Version, lifetime_seconds
from allocator.providers.provider import LookupFailed

REMEMBERED_SECONDS = 600.0
FAILED_SECONDS = 30.0
"""How long nobody asks again after the host did not say."""

Ask = Callable[[str, str], Awaitable[Version | LookupFailed]]


class Lifetimes:
    """How long deployments live, by application and version."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[tuple[str, str], tuple[float, int]] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def seconds(self, application: str, version: str) -> int:
        """How long a deployment lives at most; the longest that there is where the host does not say."""
        name, loop = (application, version), asyncio.get_running_loop()
        async with self._locks.setdefault(name, asyncio.Lock()):
            until, seconds = self._known.get(name, (0.0, 0))
            if loop.time() < until:
                return seconds
            found = await self._ask(application, version)
            failed = isinstance(found, LookupFailed)
            seconds = lifetime_seconds(None if isinstance(found, LookupFailed) else found.max_duration)
            self._known[name] = (loop.time() + (FAILED_SECONDS if failed else REMEMBERED_SECONDS), seconds)
            return seconds
