"""The allocator, as a Python matchmaker sees it.

In: requests, and ids to ask about. Out: `Allocation`s. Promises: an invalid request is never sent; a request is sent at
most once by each call, and sending the same again never makes a second server; a wait ends when the allocation does,
through restarts of Redis and losses of its history. Making the allocation is the workers' concern.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from allocator.client.outbox import AnyRequest, Outgoing, checked_id, outgoing
from allocator.client.shares import Share, Shares
from allocator.client.waiter import Waiter, read_hash
from allocator.contract.allocation import Allocation, State
from allocator.contract.partitions import PARTITIONS_MAX, Partitions
from allocator.contract.request import Priority
from allocator.redis_io.connect import BLOCKING_CONNECTIONS_MAX, connect
from allocator.redis_io.errors import Unavailable

RETRY_SECONDS = 0.25
GONE_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a request came to. `known`: something was known of its id before; `taken`: a worker has taken it up."""

    request_id: str
    entry_id: str
    known: bool
    taken: bool


class AllocatorClient:
    """One namespace on one Redis, for one event loop: `async with AllocatorClient(url) as client`.

    Many coroutines may use it at once; ten thousand that wait share two connections for each partition.
    """

    def __init__(self, url: str, namespace: str = "allocator", partitions: int = 1) -> None:
        """`url` as the setting redis.url takes it; no connection is made before the first use.

        `partitions` is how many the workers will give the namespace, where this may be used before the first of them
        has run; after that Redis says how many there are.
        """
        self._url = url
        self._expected = Partitions(namespace, partitions)
        self._shares: Shares | None = None

    async def __aenter__(self) -> Self:
        """Open it. RedisUrlError: the URL cannot be understood; EmbeddedUnavailable: no server can be started here."""
        if self._shares is None:
            blocking = BLOCKING_CONNECTIONS_MAX + PARTITIONS_MAX
            connection = await connect(self._url, name="client", blocking_connections_max=blocking)
            self._shares = Shares(connection, self._expected)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give everything back; what was submitted goes out first, and whoever still waits gets a RuntimeError."""
        if self._shares is not None:
            shares, self._shares = self._shares, None
            await shares.aclose()

    async def submit(self, request: AnyRequest, priority: Priority = Priority.NORMAL) -> str:
        """Send this request and return the id of its stream entry.

        InvalidRequestError: nothing was sent. Unavailable: whether it was sent is not known; send the same again.
        """
        sending = outgoing(request, priority)
        share = await self._to_send_by(sending.request_id)
        submitted = await share.outbox.submit(sending)
        return submitted.entry_id

    async def get(self, request_id: str) -> Allocation | None:
        """What is known of this id now; None: see `not_known`."""
        share = await self._open.of(checked_id(request_id))
        reply = await self._open.connection.execute("HGETALL", share.keys.allocation(request_id))
        return read_hash(request_id, reply)

    async def wait(self, request_id: str, timeout_seconds: float | None = None) -> Allocation:
        """Wait for the end of this id's allocation, whoever asked for it; TimeoutError after `timeout_seconds`.

        A refusal is no end: what was refused leaves the allocation as it is. While Redis is away the wait goes on.
        """
        request_id, deadline = checked_id(request_id), _deadline(timeout_seconds)
        try:
            async with asyncio.timeout_at(deadline):
                share = await self._patiently(request_id)
        except TimeoutError:
            raise _too_late(request_id, timeout_seconds) from None
        with share.listener.waiter(request_id) as waiter:
            return await _answer(waiter, deadline, timeout_seconds)

    async def cancel(self, request_id: str) -> str:
        """Order that no server is left for this id, whatever its stage, and return the id of the order's entry.

        A request that waits or is being created ends `cancelled`; a server that was handed over is stopped, and its
        allocation becomes `released`. An id that nobody has asked for yet stays cancelled for a while. Unavailable:
        whether it was sent is not known; send it again, which does no harm.
        """
        share = await self._open.of(checked_id(request_id))
        order = ("XADD", share.keys.cancellations, "*", "id", request_id)
        entry_id: bytes = await self._open.connection.execute(*order)
        return entry_id.decode()

    async def gone(self, request_id: str, timeout_seconds: float | None = None) -> Allocation:
        """Wait until no server is left for this id, as after a `cancel`; TimeoutError after `timeout_seconds`.

        `allocated` is no such end: one that is to be released is looked at again, ten times a second.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    allocation = await self.get(request_id)
                    if allocation is not None and allocation.final and allocation.state != State.ALLOCATED:
                        return allocation
                    await asyncio.sleep(GONE_LOOK_SECONDS)
        except TimeoutError:
            raise TimeoutError(
                f"{request_id} was not cancelled or released within {timeout_seconds:g} s; the cancellation stays: "
                "see that a worker runs, and ask again"
            ) from None

    async def allocate(
        self, request: AnyRequest, priority: Priority = Priority.NORMAL, timeout_seconds: float | None = None
    ) -> Allocation:
        """Send this request and wait for its end.

        Raises what `submit` and `wait` raise, and RefusedError where the request was not taken up. After a
        TimeoutError the request goes on: `wait` for it, or `allocate` the same again.
        """
        sending, deadline = outgoing(request, priority), _deadline(timeout_seconds)
        async with self._sent(sending, deadline, timeout_seconds) as (_, waiter):
            return await _answer(waiter, deadline, timeout_seconds)

    async def take_up(
        self, request: AnyRequest, priority: Priority = Priority.NORMAL, timeout_seconds: float | None = None
    ) -> Receipt:
        """Send this request and return once a worker has taken it up, or `timeout_seconds` have passed.

        Raises what `submit` raises, RefusedError where the request was not taken up, and TimeoutError where it could
        not even be sent in time.
        """
        sending, deadline = outgoing(request, priority), _deadline(timeout_seconds)
        async with self._sent(sending, deadline, timeout_seconds) as (share, waiter):
            taken = True
            try:
                async with asyncio.timeout_at(deadline):
                    submitted = await share.listener.settled(waiter)
            except TimeoutError:
                taken, submitted = False, waiter.own
            return Receipt(sending.request_id, submitted.entry_id, submitted.known, taken)

    @contextlib.asynccontextmanager
    async def _sent(
        self, sending: Outgoing, deadline: float | None, timeout_seconds: float | None
    ) -> AsyncIterator[tuple[Share, Waiter]]:
        """Send it, and attend to its wait for as long as this lasts."""
        try:
            async with asyncio.timeout_at(deadline):
                share = await self._to_send_by(sending.request_id)
        except TimeoutError:
            raise _too_late(sending.request_id, timeout_seconds) from None
        with share.listener.waiter(sending.request_id, in_doubt=True) as waiter:
            try:
                async with asyncio.timeout_at(deadline):
                    # Before it is sent, or its refusal could pass unheard.
                    await share.listener.fix_position()
                    submitted = await share.outbox.submit(sending)
            except TimeoutError:
                raise _too_late(sending.request_id, timeout_seconds) from None
            share.listener.sent(waiter, submitted)
            yield share, waiter

    async def _to_send_by(self, request_id: str) -> Share:
        try:
            return await self._open.of(request_id)
        except Unavailable as fault:
            says = f"{fault}; {request_id} was not sent: send the same request again"
            raise Unavailable(says, kind=fault.kind) from fault

    async def _patiently(self, request_id: str) -> Share:
        """The share of this request, as soon as Redis can be asked which that is."""
        shares = self._open
        while True:
            try:
                return await shares.of(request_id)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def _open(self) -> Shares:
        if self._shares is None:
            raise RuntimeError("the client is not open: use it within 'async with AllocatorClient(url) as client'")
        return self._shares


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
        f"no answer for {request_id} within {timeout_seconds:g} s; if it was sent, it goes on: wait for it again"
    )
