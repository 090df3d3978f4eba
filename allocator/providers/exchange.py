"""One HTTP call with a deadline.

In: method, URL, body, seconds. Out: a `Reply`, or `NotSent` (the call never left this process), or `Lost` (it may
have arrived; nobody knows). Promised: a POST goes out at most once (GET, PUT and DELETE once more where the connection
had died, which is harmless); redirects are not followed; a reply over its size limit is not read on; a cancellation
from outside passes through, whatever the deadline does at the same moment.

Left to others: what a status means, and what goes over the wire (`connections`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from yarl import URL

from allocator.deadlines import Deadlines
from allocator.providers.connections import Connections, Lost, NotSent, Reply

__all__ = ["Exchange", "Lost", "NotSent", "Reply"]

_HARMLESS = frozenset({"GET", "PUT", "DELETE"})


class _Deadline:
    """Cancels the calling asyncio task once, and can tell afterwards that it was this that did it."""

    __slots__ = ("_caller", "due_at", "fired")

    def __init__(self, caller: asyncio.Task[object], due_at: float) -> None:
        self._caller = caller
        self.due_at = due_at
        self.fired = False

    def expire(self) -> None:
        self.fired = True
        self._caller.cancel()


class Exchange:
    """Calls to one host, each bearing the token of the moment; `scheme` is the word before it."""

    def __init__(
        self, token: Callable[[], str], connector: aiohttp.BaseConnector | None = None, *, scheme: str = "Bearer"
    ) -> None:
        """Use the given connector, which stays its owner's, or make one; inside a running loop."""
        self._token = token
        self._connections = Connections(connector, scheme=scheme)
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)

    async def send(
        self, method: str, url: URL, *, timeout_seconds: float, reply_bytes_max: int, body: bytes | None = None
    ) -> Reply | NotSent | Lost:
        """Make one call and read its reply within the timeout."""
        caller = asyncio.current_task(self._loop)
        if caller is None:
            raise RuntimeError("Exchange.send must be awaited in an asyncio task")
        cancelling = caller.cancelling()
        deadline = _Deadline(caller, self._loop.time() + timeout_seconds)
        self._deadlines.set(deadline)
        try:
            call = self._connections.call
            answer = await call(method, url, body, token=self._token(), reply_bytes_max=reply_bytes_max)
            if isinstance(answer, Lost) and answer.status is None and method in _HARMLESS:
                answer = await call(method, url, body, token=self._token(), reply_bytes_max=reply_bytes_max)
        except asyncio.CancelledError:
            if not deadline.fired:
                raise
            deadline.fired = False
            if caller.uncancel() > cancelling:
                raise  # someone outside has cancelled as well
            return Lost(f"no reply within {timeout_seconds:g} s")
        else:
            return answer
        finally:
            self._deadlines.call_off(deadline)
            if deadline.fired:  # and aiohttp made an ordinary error or a reply of it
                caller.uncancel()

    async def close(self) -> None:
        """Close the connections that were made here."""
        await self._connections.close()
