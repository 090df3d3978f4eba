"""The aftermath's twin: the same steps over the `MemoryStore` that the broker's twin uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from allocator.broker.aftermath import Order, Over
from allocator.broker.broker import BrokerUnavailable, Condemned, Entry, Hold
from allocator.broker.memory_store import DeadLetter, MemoryStore, Record
from allocator.contract.allocation import decode_attempts
from allocator.contract.codes import Code
from allocator.contract.request import Priority

BLOCK_SECONDS = 2.0


class MemoryAftermath:
    """One worker's view of a store. `fence` gives a text that is never given twice."""

    def __init__(self, store: MemoryStore, *, lease_ms: int, result_ttl_ms: int, fence: Callable[[], str]) -> None:
        self._store = store
        self._lease_ms = lease_ms
        self._result_ttl_ms = result_ttl_ms
        self._fence = fence
        self._told = len(store.signals)

    async def orders(self, count: int) -> list[Order]:
        """See `Aftermath.orders`."""
        try:
            async with asyncio.timeout(BLOCK_SECONDS):
                while True:
                    store = self._ask()
                    if taken := store.read_orders(count):
                        return taken
                    await store.changed()
        except TimeoutError:
            return []

    async def stray_orders(self, count: int, idle_ms: int) -> list[Order]:
        """See `Aftermath.stray_orders`."""
        store = self._ask()
        now_ms = store.now_ms()
        found = [order for order, since_ms in store.orders_pending.values() if now_ms - since_ms >= idle_ms][:count]
        for order in found:
            store.orders_pending[order.entry_id] = (order, now_ms)
        return found

    async def settle(self, order: Order) -> None:
        """See `Aftermath.settle`."""
        self._ask().orders_pending.pop(order.entry_id, None)

    async def bury(self, order: Order, code: Code, message: str) -> bool:
        """See `Aftermath.bury`."""
        store = self._ask()
        if store.orders_pending.pop(order.entry_id, None) is None:
            return False
        # the ledger keeps entries of requests; what stands for the priority of one that is none says nothing
        entry = Entry(Priority.NORMAL, order.entry_id, order.to_json())
        store.dead_letters.append(DeadLetter(code.value, message, "", entry))
        return True

    async def seize(self, request_id: str) -> Hold | Over | None:
        """See `Aftermath.seize`."""
        store = self._ask()
        record = store.record(request_id)
        if record is None:
            return None
        if record.final is not None:
            return Over(record.final, record.session, record.entry_id)
        if record.body is None or record.priority is None:
            return None
        uncertain = not record.clean
        record.fence, record.clean = self._fence(), False
        store.unpark(request_id, record)
        store.leases[request_id] = store.now_ms() + self._lease_ms
        store.signals.append(request_id)
        store.wake()
        attempts = store.allocation(request_id).get("attempts")
        return Hold(
            request_id=request_id,
            fence=record.fence,
            entry_id=record.entry_id,
            priority=record.priority,
            deadline_ms=record.deadline_ms,
            raw=record.body,
            generation=record.generation,
            takes=record.takes,
            uncertain=uncertain,
            attempts=decode_attempts(attempts) if attempts else (),
            trail=record.trail,
        )

    async def forestall(self, order: Order, fields: Mapping[str, str], event: str) -> bool:
        """See `Aftermath.forestall`."""
        store, request_id = self._ask(), order.request_id or ""
        known = store.record(request_id)
        if known is not None and (known.final is not None or known.body is not None):
            return False
        expires_at_ms = store.now_ms() + self._result_ttl_ms
        store.records[request_id] = Record("*", order.entry_id, final=fields["state"], expires_at_ms=expires_at_ms)
        store.drop_allocation(request_id)
        store.write_allocation(request_id, dict(fields), keep_ms=self._result_ttl_ms)
        store.announce(request_id, fields["state"], event, [])
        return True

    async def condemn(self, condemned: Condemned, request_id: str, *, release: bool) -> bool:
        """See `Aftermath.condemn`."""
        store = self._ask()
        record, name = store.record(request_id), (condemned.provider, condemned.session_id)
        if record is not None and record.final == "allocated" and record.session is not None and not release:
            serves = {record.session, (record.session[0], record.native_id or record.session[1])}
            if name in serves:
                return False
        store.condemned.pop(name, None)
        store.condemn(condemned, 0)
        return True

    async def release(self, request_id: str, session: tuple[str, str], event: str) -> bool:
        """See `Aftermath.release`."""
        store = self._ask()
        store.condemned.pop(session, None)
        store.due_ms.pop(session, None)
        record = store.record(request_id)
        if record is None or record.final != "allocated" or record.session != session:
            return False
        record.final, record.expires_at_ms = "released", store.now_ms() + self._result_ttl_ms
        fields = {"state": "released", "final": "1", "request_id": request_id, "updated_at": str(store.now_ms())}
        store.write_allocation(request_id, fields, keep_ms=self._result_ttl_ms)
        store.announce(request_id, "released", event, record.reply_to)
        return True

    async def allocation(self, request_id: str) -> Mapping[str, str]:
        """See `Aftermath.allocation`."""
        return self._ask().allocation(request_id)

    async def seized(self) -> list[str]:
        """See `Aftermath.seized`."""
        try:
            async with asyncio.timeout(BLOCK_SECONDS):
                while len((store := self._ask()).signals) <= self._told:
                    await store.changed()
        except TimeoutError:
            return []
        news, self._told = store.signals[self._told :], len(store.signals)
        return news

    def _ask(self) -> MemoryStore:
        if self._store.away:
            raise BrokerUnavailable("the store is away")
        return self._store
