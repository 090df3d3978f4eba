"""The allocator, as a Python matchmaker sees it.

In: requests, and ids to ask about. Out: `Allocation`s. Promises: an invalid request is never sent; a request is sent at
most once by each call, and sending the same again never makes a second server; a wait ends when the allocation does,
through restarts of Redis and losses of its history. Making the allocation is the workers' concern.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import NamedTuple, Self

from allocator.client.listener import Listener
from allocator.client.outbox import AnyRequest, Outbox, checked_id, outgoing
from allocator.client.waiter import Waiter, read_hash
from allocator.contract.allocation import Allocation
from allocator.contract.keys import Keys
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection, connect


class _Open(NamedTuple):
    connection: RedisConnection
    outbox: Outbox
    listener: Listener


class AllocatorClient:
    """One namespace on one Redis, for one event loop: `async with AllocatorClient(url) as client`.

    Many coroutines may use it at once; ten thousand that wait share two connections.
    """

    def __init__(self, url: str, namespace: str = "allocator") -> None:
        """`url` as the setting redis.url takes it; no connection is made before the first use."""
        self._url = url
        self._keys = Keys(namespace)
        self._parts: _Open | None = None

    async def __aenter__(self) -> Self:
        """Open it. RedisUrlError: the URL cannot be understood; EmbeddedUnavailable: no server can be started here."""
        if self._parts is None:
            connection = await connect(self._url, name="client")
            self._parts = _Open(connection, Outbox(connection, self._keys), Listener(connection, self._keys))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give everything back; what was submitted goes out first, and whoever still waits gets a RuntimeError."""
        if self._parts is not None:
            parts, self._parts = self._parts, None
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(parts.connection.aclose)
                stack.push_async_callback(parts.outbox.aclose)
                stack.push_async_callback(parts.listener.aclose)

    async def submit(self, request: AnyRequest, priority: Priority = Priority.NORMAL) -> str:
        """Send this request and return the id of its stream entry.

        InvalidRequestError: nothing was sent. Unavailable: whether it was sent is not known; send the same again.
        """
        submitted = await self._open.outbox.submit(outgoing(request, priority))
        return submitted.entry_id

    async def get(self, request_id: str) -> Allocation | None:
        """What is known of this id now; None: not submitted, not taken up yet, or aged out."""
        reply = await self._open.connection.execute("HGETALL", self._keys.allocation(request_id))
        return read_hash(request_id, reply)

    async def wait(self, request_id: str, timeout_seconds: float | None = None) -> Allocation:
        """Wait for the end of this id's allocation, whoever asked for it; TimeoutError after `timeout_seconds`.

        A refusal is no end: what was refused leaves the allocation as it is. While Redis is away the wait goes on.
        """
        with self._open.listener.waiter(checked_id(request_id)) as waiter:
            return await _answer(waiter, _deadline(timeout_seconds), timeout_seconds)

    async def cancel(self, request_id: str) -> str:
        """Order that no server is left for this id, whatever its stage, and return the id of the order's entry.

        A request that waits or is being created ends `cancelled`; a server that was handed over is stopped, and its
        allocation becomes `released`. An id that nobody has asked for yet stays cancelled for a while. Unavailable:
        whether it was sent is not known; send it again, which does no harm.
        """
        order = ("XADD", self._keys.cancellations, "*", "id", checked_id(request_id))
        entry_id: bytes = await self._open.connection.execute(*order)
        return entry_id.decode()

    async def allocate(
        self, request: AnyRequest, priority: Priority = Priority.NORMAL, timeout_seconds: float | None = None
    ) -> Allocation:
        """Send this request and wait for its end.

        Raises what `submit` and `wait` raise, and RefusedError where the request was not taken up. After a
        TimeoutError the request goes on: `wait` for it, or `allocate` the same again.
        """
        parts, deadline, sending = self._open, _deadline(timeout_seconds), outgoing(request, priority)
        with parts.listener.waiter(sending.request_id, in_doubt=True) as waiter:
            try:
                async with asyncio.timeout_at(deadline):
                    # Before it is sent, or its refusal could pass unheard.
                    await parts.listener.fix_position()
                    submitted = await parts.outbox.submit(sending)
            except TimeoutError:
                raise _too_late(sending.request_id, timeout_seconds) from None
            parts.listener.sent(waiter, submitted)
            return await _answer(waiter, deadline, timeout_seconds)

    @property
    def _open(self) -> _Open:
        if self._parts is None:
            raise RuntimeError("the client is not open: use it within 'async with AllocatorClient(url) as client'")
        return self._parts


def _deadline(timeout_seconds: float | None) -> float | None:
    return None if timeout_seconds is None else asyncio.get_running_loop().time() + timeout_seconds


async def _answer(waiter: Waiter, deadline: float | None, timeout_seconds: float | None) -> Allocation:
    try:
        async with asyncio.timeout_at(deadline):
            return await waiter.answer
    except TimeoutError:
        raise _too_late(waiter.request_id, timeout_seconds) from None


def _too_late(request_id: str, timeout_seconds: float | None) -> TimeoutError:
    return TimeoutError(
        f"no answer for {request_id} within {timeout_seconds:g} s; the request goes on: wait for it again"
    )
