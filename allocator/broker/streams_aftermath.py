"""The aftermath on Redis: cancellations are a stream of their own, read by the same group.

In: the port's values. Out: the port's replies. Who is seized is told on an internal stream that every worker reads from
its end, so that a holder lets go at once; one that misses it finds its fence stale at its next step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from allocator.broker import packing
from allocator.broker.aftermath import Order, Over
from allocator.broker.broker import NEVER_MS, Condemned, Hold
from allocator.broker.steps import BLOCK_MS, Steps
from allocator.broker.streams import DEAD_LETTER_AGE_SECONDS, DEAD_LETTERS_MAX
from allocator.contract.codes import Code
from allocator.contract.keys import GROUP, Keys
from allocator.redis_io.errors import CommandFault, RedisFault
from allocator.redis_io.scripts import Script

_SCRIPTS = {
    name: Script.load("allocator.broker.scripts", name)
    for name in ("bury_order", "seize", "forestall", "condemn", "release")
}


class StreamsAftermath:
    """One namespace on one Redis, seen by one worker process."""

    def __init__(
        self,
        steps: Steps,
        keys: Keys,
        *,
        worker: str,
        lease_ms: int,
        result_ttl_ms: int,
        results_max_age_ms: int,
        fence: Callable[[], str],
        now_ms: Callable[[], int],
    ) -> None:
        """`fence` gives a text that is never given twice by any process, `now_ms` the broker's time."""
        self._steps = steps
        self._keys = keys
        self._worker = worker
        self._lease_ms = lease_ms
        self._result_ttl_ms = result_ttl_ms
        self._results_max_age_ms = results_max_age_ms
        self._fence = fence
        self._now_ms = now_ms
        self._told = "$"

    async def orders(self, count: int) -> list[Order]:
        """See `Aftermath.orders`."""
        command = ("XREADGROUP", "GROUP", GROUP, self._worker, "COUNT", count, "BLOCK", BLOCK_MS)
        async with self._steps.asking():
            reply = await self._steps.connection.execute_blocking(*command, "STREAMS", self._keys.cancellations, ">")
        return [_order(*entry) for _, found in reply or () for entry in found]

    async def stray_orders(self, count: int, idle_ms: int) -> list[Order]:
        """See `Aftermath.stray_orders`."""
        command = ("XAUTOCLAIM", self._keys.cancellations, GROUP, self._worker, idle_ms, "0-0", "COUNT", count)
        async with self._steps.asking():
            reply = await self._steps.connection.execute(*command)
        return [_order(*entry) for entry in reply[1]]

    async def settle(self, order: Order) -> None:
        """See `Aftermath.settle`."""
        stream = self._keys.cancellations
        # Deleted first: should the rest be lost, whoever claims strays drops what is deleted. The other way round an
        # entry that nobody has pending would stay for ever.
        commands = [("XDEL", stream, order.entry_id), ("XACK", stream, GROUP, order.entry_id)]
        async with self._steps.asking():
            for reply in await self._steps.connection.execute_many(commands):
                if isinstance(reply, RedisFault):
                    raise reply

    async def bury(self, order: Order, code: Code, message: str) -> bool:
        """See `Aftermath.bury`."""
        keys = [self._keys.cancellations, self._keys.dead_letters]
        oldest = f"{self._now_ms() - DEAD_LETTER_AGE_SECONDS * 1000}-0"
        args = [GROUP, order.entry_id, code.value, message, order.to_json(), oldest, DEAD_LETTERS_MAX]
        return bool(await self._run("bury_order", keys, args))

    async def seize(self, request_id: str) -> Hold | Over | None:
        """See `Aftermath.seize`."""
        keys = [self._keys.record(request_id), self._keys.leases, self._keys.signals, self._keys.allocation(request_id)]
        keys.append(self._keys.parked)
        args = [request_id, self._fence(), self._lease_ms, self._keys.lots]
        reply = await self._run("seize", keys, args)
        match reply[0]:
            case b"seized":
                return packing.reclaimed(reply[1:], loss_ms=NEVER_MS)
            case b"ended":
                provider, _, session_id = reply[2].decode().partition("/")
                session = (provider, session_id) if session_id else None
                return Over(reply[1].decode(), session, reply[3].decode())
            case _:
                return None

    async def forestall(self, order: Order, fields: Mapping[str, str], event: str) -> bool:
        """See `Aftermath.forestall`."""
        request_id = order.request_id or ""
        keys = [self._keys.record(request_id), self._keys.allocation(request_id), self._keys.results]
        words = [word for pair in fields.items() for word in pair]
        args = [order.entry_id, self._result_ttl_ms, self._oldest(), request_id, event, *words]
        return bool(await self._run("forestall", keys, args))

    async def condemn(self, condemned: Condemned, request_id: str, *, release: bool) -> bool:
        """See `Aftermath.condemn`."""
        keys = [self._keys.record(request_id), self._keys.condemned, self._keys.condemned_notes]
        args = [condemned.session_id, packing.member(condemned), condemned.reason, "1" if release else ""]
        return bool(await self._run("condemn", keys, args))

    async def release(self, request_id: str, session: tuple[str, str], event: str) -> bool:
        """See `Aftermath.release`."""
        keys = [self._keys.record(request_id), self._keys.allocation(request_id), self._keys.results]
        keys += [self._keys.condemned, self._keys.condemned_notes]
        args: list[str | int] = [session[1], "/".join(session), request_id, self._keys.results_for(""), self._oldest()]
        args += [self._results_max_age_ms, self._result_ttl_ms, self._now_ms(), event]
        return bool(await self._run("release", keys, args))

    async def allocation(self, request_id: str) -> Mapping[str, str]:
        """See `Aftermath.allocation`."""
        async with self._steps.asking():
            try:
                reply = await self._steps.connection.execute("HGETALL", self._keys.allocation(request_id))
            except CommandFault:  # whatever is there is no hash: a release makes it anew
                reply = []
        words = [word.decode(errors="replace") for word in reply]
        return dict(zip(words[::2], words[1::2], strict=True))

    async def seized(self) -> list[str]:
        """See `Aftermath.seized`."""
        async with self._steps.asking():
            if self._told == "$":
                last = await self._steps.connection.execute("XREVRANGE", self._keys.signals, "+", "-", "COUNT", 1)
                self._told = last[0][0].decode() if last else "0-0"
            reply = await self._steps.connection.execute_blocking(
                "XREAD", "COUNT", 1000, "BLOCK", BLOCK_MS, "STREAMS", self._keys.signals, self._told
            )
        entries = [entry for _, found in reply or () for entry in found]
        if entries:
            self._told = entries[-1][0].decode()
        return [fields[1].decode() for _, fields in entries if fields[0] == b"seized"]

    def _oldest(self) -> str:
        return f"{self._now_ms() - self._results_max_age_ms}-0"

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self._steps.run(_SCRIPTS[name], keys, args)


def _order(entry_id: bytes, words: Sequence[bytes] | None) -> Order:
    return Order.read(entry_id.decode(), words or ())
