"""The car park's twin: the same steps over the `MemoryStore` that the broker's twin uses."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence

from allocator.broker.broker import BATCH_MAX, DOUBT_MS, BrokerFull, BrokerUnavailable, Hold
from allocator.broker.memory_store import MemoryStore
from allocator.broker.parking import STRANDED_LOTS_MAX, STRANDED_MS, Arrivals, Stay, Want
from allocator.contract.allocation import decode_attempts, encode_attempts
from allocator.contract.request import Priority

LOWER_SHARE = 10
_LOWEST_FIRST = (Priority.LOW, Priority.NORMAL, Priority.HIGH)
_NORMAL_FIRST = (Priority.NORMAL, Priority.HIGH, Priority.LOW)


class MemoryParking:
    """One worker's view of a store. `fence` gives a text that is never given twice."""

    def __init__(self, store: MemoryStore, *, lease_ms: int, fence: Callable[[], str]) -> None:
        self._store = store
        self._lease_ms = lease_ms
        self._fence = fence

    async def park(self, stay: Stay) -> bool:
        """See `Parking.park`."""
        store, hold = self._ask(), stay.hold
        if store.full:
            raise BrokerFull("the store is full", "out_of_memory")
        record, parked_fence = store.record(hold.request_id), f"{hold.fence}~"
        if record is not None and record.fence == parked_fence:
            return True
        if record is None or record.fence != hold.fence or record.final is not None or record.priority is None:
            return False
        record.fence, record.clean, record.parked = parked_fence, True, stay.lots
        record.trail = stay.trail or record.trail
        store.leases[hold.request_id] = min(stay.wake_ms, record.deadline_ms)
        store.parked[hold.request_id] = None
        for lot in dict.fromkeys(stay.lots):
            store.lots_served_ms[lot] = store.now_ms()
            insort(store.lots.setdefault((lot, record.priority), []), (record.deadline_ms, hold.request_id))
        fields = {"state": "parked", "updated_at": str(store.now_ms())}
        if stay.attempts:
            fields["attempts"] = encode_attempts(stay.attempts)
        if stay.code is not None:
            fields |= {"error_code": stay.code.value, "error_message": stay.message}
        store.write_allocation(hold.request_id, fields)
        return True

    async def claim(self, wants: Sequence[Want], count: int) -> Arrivals:
        """See `Parking.claim`."""
        store = self._ask()
        if not store.parked:
            store.lots_served_ms.clear()
            return Arrivals()
        prefix, room = self._fence(), min(count, BATCH_MAX)
        holds: list[tuple[Hold, str]] = []
        for want in wants:
            for _ in range(min(want.count, room - len(holds))):
                best = self._next(want.lot)
                if best is None:
                    break
                holds.append((self._take_over(*best, f"{prefix}.{len(holds) + 1}"), want.lot))
        waiting = {}
        for want in wants:
            counts = {priority: len(store.lots.get((want.lot, priority), ())) for priority in Priority}
            if any(counts.values()):
                waiting[want.lot] = counts
        return Arrivals(tuple(holds), waiting, len(store.parked))

    async def stranded(self, served: Sequence[str]) -> list[str]:
        """See `Parking.stranded`."""
        store = self._ask()
        named, now_ms = store.lots_served_ms, store.now_ms()
        named.update((lot, now_ms) for lot in served if lot in named)
        left = sorted((at_ms, lot) for lot, at_ms in named.items() if at_ms <= now_ms - STRANDED_MS)
        stranded = []
        for _, lot in left[:STRANDED_LOTS_MAX]:
            if any(store.lots.get((lot, priority)) for priority in Priority):
                stranded.append(lot)
            else:
                del named[lot]
        return stranded

    async def close(self) -> None:
        """See `Parking.close`: here nothing waits to be sent."""

    def _next(self, lot: str) -> tuple[str, Priority] | None:
        """The best of a lot, whose turn is counted; every tenth is the lowest, another a normal one before low ones."""
        lines = {priority: self._store.lots.get((lot, priority)) for priority in Priority}
        turn = (self._store.lot_turns.get(lot, 0) + 1) % LOWER_SHARE
        order: Sequence[Priority] = tuple(Priority)
        if turn == 0:
            order = _LOWEST_FIRST
        elif turn == LOWER_SHARE // 2 and lines[Priority.LOW]:
            order = _NORMAL_FIRST
        for priority in order:
            if line := lines[priority]:
                self._store.lot_turns[lot] = turn
                return line[0][1], priority
        return None

    def _take_over(self, request_id: str, priority: Priority, fence: str) -> Hold:
        store, record = self._store, self._store.records[request_id]
        store.unpark(request_id, record)
        record.fence, record.clean = fence, False
        store.leases[request_id] = store.now_ms() + self._lease_ms
        attempts = store.allocation(request_id).get("attempts")
        return Hold(
            request_id=request_id,
            fence=fence,
            entry_id=record.entry_id,
            priority=priority,
            deadline_ms=record.deadline_ms,
            raw=record.body or b"",
            generation=record.generation,
            takes=record.takes,
            attempts=decode_attempts(attempts) if attempts else (),
            doubtful=int(record.entry_id.partition("-")[0]) < store.doubted_ms + DOUBT_MS,
            trail=record.trail,
        )

    def _ask(self) -> MemoryStore:
        if self._store.away:
            raise BrokerUnavailable("the store is away")
        return self._store
