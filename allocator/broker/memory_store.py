"""What the twin of the broker keeps in place of Redis: streams, records, leases, and a ledger of all that was said.

In: the matchmaker's side of the contract (`add`), and the steps of `memory`. Out: a ledger for checkers: `results`,
`replies`, `dead_letters`, `allocation`. Promises: nothing here waits, reads a clock of its own or depends on the order
of a set; the ledger is never trimmed. What a step means is left to `memory`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from allocator.broker.aftermath import Order
from allocator.broker.broker import NEVER_MS, Condemned, Entry
from allocator.broker.census import Orphan, Tally
from allocator.contract.request import Priority


@dataclass(frozen=True, slots=True)
class Announcement:
    """One entry of a results stream."""

    request_id: str
    state: str
    event: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be taken up, with its bytes."""

    code: str
    message: str
    request_id: str
    entry: Entry


@dataclass(slots=True)
class Record:
    """What the broker knows of one request. `final` is its last state."""

    digest: str
    entry_id: str
    priority: Priority | None = None
    fence: str = ""
    body: bytes | None = None
    deadline_ms: int = 0
    generation: int = 1
    takes: int = 1
    clean: bool = False
    unbegun: bool = False
    """A suspect that was taken over and still stands in line."""
    parked: tuple[str, ...] | None = None
    """Its lots, while it is parked."""
    trail: str = ""
    reply_to: list[str] = field(default_factory=list)
    final: str | None = None
    session: tuple[str, str] | None = None
    native_id: str | None = None
    expires_at_ms: int | None = None


@dataclass(slots=True)
class Pending:
    """An entry that was read and not settled, and since when."""

    entry: Entry
    since_ms: int


@dataclass(slots=True)
class Stream:
    """One request stream with its group: what nobody has read, and what is pending."""

    fresh: deque[Entry] = field(default_factory=deque)
    pending: dict[str, Pending] = field(default_factory=dict)
    last_id: tuple[int, int] = (0, 0)


class MemoryStore:
    """One namespace, shared by the MemoryBrokers of several workers.

    `away` makes every step raise BrokerUnavailable, `full` makes `reserve` and `park` raise BrokerFull.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.away = False
        self.full = False
        self.results: list[Announcement] = []
        self.replies: dict[str, list[Announcement]] = {}
        self.dead_letters: list[DeadLetter] = []
        self.beat = 0
        self.loss_ms = NEVER_MS
        self.suspected_ms = NEVER_MS
        self.history = 0
        """The name of the server's history: a restart and a restored backup change it, as a flush does not."""
        self.known_history = 0
        self._order_number = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.forget()

    def forget(self) -> None:
        """Lose everything but the ledger, as a Redis that is flushed does."""
        self.deployment: str | None = None
        self.contract: int | None = None
        self.grouped = False
        self.streams = {priority: Stream() for priority in Priority}
        self.records: dict[str, Record] = {}
        self.leases: dict[str, int] = {}
        self.parked: dict[str, None] = {}
        self.lots: dict[tuple[str, Priority], list[tuple[int, str]]] = {}
        self.lots_served_ms: dict[str, int] = {}
        self.lot_turns: dict[str, int] = {}
        self.condemned: dict[tuple[str, str], Condemned] = {}
        self.due_ms: dict[tuple[str, str], int] = {}
        self.orders_fresh: deque[Order] = deque()
        self.orders_pending: dict[str, tuple[Order, int]] = {}
        self.signals: list[str] = []
        self.turn_until_ms = 0
        self.leader: object | None = None
        self.lead_until_ms = 0
        self.levers: dict[str, str] = {}
        self.stops: dict[tuple[str, str], int] = {}
        self.orphans: dict[str, tuple[int, Tally, tuple[Orphan, ...]]] = {}
        self._hashes: dict[str, dict[str, str]] = {}
        self._hash_expires_at_ms: dict[str, int] = {}
        self.wake()

    def add(self, raw: bytes | None, priority: Priority = Priority.NORMAL) -> str:
        """Add one entry as a matchmaker does, and give its id; None stands for one without the field `request`."""
        stream = self.streams[priority]
        last_ms, last_number = stream.last_id
        now_ms = self.now_ms()
        stream.last_id = (now_ms, 0) if now_ms > last_ms else (last_ms, last_number + 1)
        entry_id = f"{stream.last_id[0]}-{stream.last_id[1]}"
        stream.fresh.append(Entry(priority, entry_id, raw))
        self.wake()
        return entry_id

    def allocation(self, request_id: str) -> dict[str, str]:
        """The allocation hash, as HGETALL gives it: empty where there is none."""
        expires_at_ms = self._hash_expires_at_ms.get(request_id)
        if expires_at_ms is not None and self.now_ms() >= expires_at_ms:
            self.drop_allocation(request_id)
        return dict(self._hashes.get(request_id, {}))

    def write_allocation(self, request_id: str, fields: dict[str, str], *, keep_ms: int | None = None) -> None:
        """Set fields of the hash; `keep_ms` gives it a lifetime."""
        self._hashes.setdefault(request_id, {}).update(fields)
        if keep_ms is not None:
            self._hash_expires_at_ms[request_id] = self.now_ms() + keep_ms

    def allocation_expires_at_ms(self, request_id: str) -> int | None:
        """Until when the hash is kept; None where it has no lifetime."""
        return self._hash_expires_at_ms.get(request_id)

    def drop_allocation(self, request_id: str, *names: str) -> None:
        """Drop these fields of the hash, or the whole of it."""
        if names:
            for name in names:
                self._hashes.get(request_id, {}).pop(name, None)
        else:
            self._hashes.pop(request_id, None)
            self._hash_expires_at_ms.pop(request_id, None)

    @property
    def doubted_ms(self) -> int:
        """When something was lost last, proven or suspected."""
        return max(self.loss_ms, self.suspected_ms)

    def record(self, request_id: str) -> Record | None:
        """The record, where there is one that has not aged out."""
        record = self.records.get(request_id)
        if record is not None and record.expires_at_ms is not None and self.now_ms() >= record.expires_at_ms:
            del self.records[request_id]
            return None
        return record

    def owned(self, request_id: str, fence: str) -> Record | None:
        """The record of a request under way, where this fence still holds it."""
        record = self.record(request_id)
        return record if record is not None and record.fence == fence and record.final is None else None

    def unpark(self, request_id: str, record: Record) -> None:
        """Take a request out of its lots, where it is parked."""
        if record.parked is not None and record.priority is not None:
            for lot in dict.fromkeys(record.parked):
                self.lots[lot, record.priority].remove((record.deadline_ms, request_id))
            record.parked = None
            del self.parked[request_id]
            self.write_allocation(request_id, {"state": "allocating", "updated_at": str(self.now_ms())})

    def read(self, priority: Priority, count: int) -> list[Entry]:
        """Make up to `count` new entries of one stream pending."""
        stream = self.streams[priority]
        taken: list[Entry] = []
        while stream.fresh and len(taken) < count:
            entry = stream.fresh.popleft()
            stream.pending[entry.entry_id] = Pending(entry, self.now_ms())
            taken.append(entry)
        return taken

    def order(self, request_id: str) -> None:
        """Add one cancellation as a matchmaker does."""
        self.order_by((b"id", request_id.encode()))

    def order_by(self, *fields: tuple[bytes, bytes]) -> None:
        """Add one entry with these fields to the cancellations."""
        self._order_number += 1
        words = [word for pair in fields for word in pair]
        self.orders_fresh.append(Order.read(f"{self.now_ms()}-{self._order_number}", words))
        self.wake()

    def read_orders(self, count: int) -> list[Order]:
        """Make up to `count` new cancellations pending."""
        taken: list[Order] = []
        while self.orders_fresh and len(taken) < count:
            order = self.orders_fresh.popleft()
            self.orders_pending[order.entry_id] = (order, self.now_ms())
            taken.append(order)
        return taken

    def settle(self, entry: Entry) -> bool:
        """Acknowledge and delete an entry; False where someone else has."""
        return self.streams[entry.priority].pending.pop(entry.entry_id, None) is not None

    def announce(self, request_id: str, state: str, event: str, reply_to: list[str]) -> None:
        """Add an end or a refusal to the results, and to the streams of those who asked."""
        said = Announcement(request_id, state, event, self.now_ms())
        self.results.append(said)
        for name in reply_to:
            self.replies.setdefault(name, []).append(said)

    def condemn(self, condemned: Condemned, delay_ms: int) -> None:
        """Mark a session for stopping; one that is marked already stays as it is."""
        name = (condemned.provider, condemned.session_id)
        if name not in self.condemned:
            since_ms = self.now_ms()
            self.condemned[name] = Condemned(*name, condemned.reason, since_ms)
            self.due_ms[name] = since_ms + delay_ms

    async def changed(self) -> None:
        """Wait until something was added."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        """Let all who wait look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
