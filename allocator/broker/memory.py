"""The broker's twin: the same steps over a `MemoryStore` in place of Redis.

In: the port's values. Out: the port's replies. Promises what the port promises, step by step: each runs whole, without
giving way to others, and only `wait` waits, on the loop's clock, so that virtual time holds. Losing replies, delaying
steps and ending workers is left to whoever wraps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from allocator.broker.broker import (
    DOUBT_MS,
    FIRST_STOP_MS,
    SUSPECT_TAKES,
    Already,
    BrokerFull,
    BrokerUnavailable,
    CommitReply,
    Condemned,
    Declined,
    Depth,
    Done,
    Duplicate,
    Ended,
    Ending,
    Entry,
    Hold,
    IsCondemned,
    Lost,
    NamespaceTaken,
    OtherBody,
    Refusal,
    Reservation,
    ReserveReply,
    Stale,
    Survey,
)
from allocator.broker.fences import Fences
from allocator.broker.memory_store import DeadLetter, MemoryStore, Record
from allocator.contract.allocation import Attempt, decode_attempts, encode_attempts
from allocator.contract.codes import Code
from allocator.contract.keys import CONTRACT_VERSION
from allocator.contract.request import Priority

BLOCK_SECONDS = 2.0
REPLY_TO_MAX = 8


class MemoryBroker:
    """One worker's view of a store. `fence` gives a text that is never given twice."""

    def __init__(
        self, store: MemoryStore, *, deployment: str, lease_ms: int, result_ttl_ms: int, fence: Callable[[], str]
    ) -> None:
        self._store = store
        self._deployment = deployment
        self._lease_ms = lease_ms
        self._result_ttl_ms = result_ttl_ms
        self._fences = Fences(fence)
        self._beat = 0

    def now_ms(self) -> int:
        """See `Broker.now_ms`."""
        return self._store.now_ms()

    def loss_ms(self) -> int:
        """See `Broker.loss_ms`."""
        return self._store.doubted_ms

    async def prepare(self) -> None:
        """See `Broker.prepare`."""
        store = self._ask()
        store.deployment = store.deployment or self._deployment
        store.contract = store.contract or CONTRACT_VERSION
        if store.deployment != self._deployment:
            raise NamespaceTaken(f"the namespace belongs to the deployment {store.deployment!r}")
        if store.contract > CONTRACT_VERSION:
            raise NamespaceTaken(f"the namespace speaks contract {store.contract}")
        store.grouped = True

    async def look_back(self) -> int:
        """See `Broker.look_back`."""
        store = self._ask()
        if self._beat > store.beat:
            store.loss_ms = store.now_ms()
        elif store.known_history != store.history:
            store.suspected_ms = store.now_ms()  # what is shorter than a beat nobody can prove
        store.known_history = store.history
        store.beat = self._beat = max(store.beat, self._beat) + 1
        return store.doubted_ms

    async def take(self, count: int, order: Sequence[Priority]) -> list[Entry]:
        """See `Broker.take`."""
        store = await self._ask_group()
        taken: list[Entry] = []
        for priority in order:
            taken += store.read(priority, count - len(taken))
        return taken

    async def wait(self, count: int) -> list[Entry]:
        """See `Broker.wait`; `count` is shared out evenly over the streams."""
        share = max(1, count // len(Priority))
        try:
            async with asyncio.timeout(BLOCK_SECONDS):
                while True:
                    store = await self._ask_group()
                    if taken := [entry for priority in Priority for entry in store.read(priority, share)]:
                        return taken
                    await store.changed()
        except TimeoutError:
            return []

    async def strays(self, count: int, idle_ms: int) -> list[Entry]:
        """See `Broker.strays`."""
        store = await self._ask_group()
        now_ms = store.now_ms()
        idle = (
            pending
            for stream in store.streams.values()
            for pending in stream.pending.values()
            if now_ms - pending.since_ms >= idle_ms
        )
        found = list(islice(idle, count))
        for pending in found:
            pending.since_ms = now_ms
        return [pending.entry for pending in found]

    async def reserve(self, asks: Sequence[Reservation]) -> list[ReserveReply]:
        """See `Broker.reserve`. Repeated for an entry, it uses the fence of the first time."""
        fences = self._fences.of(asks)
        store = self._ask()
        if store.full:
            raise BrokerFull("the store is full", "out_of_memory")
        if self._beat > store.beat:
            await self.look_back()
        return [self._reserve(ask, fence) for ask, fence in zip(asks, fences, strict=True)]

    def _reserve(self, ask: Reservation, fence: str) -> ReserveReply:
        store, entry, known = self._store, ask.entry, self._store.record(ask.request_id)
        if known is not None:
            owning = (known.entry_id, known.priority) == (entry.entry_id, entry.priority)
            if owning and known.fence == fence and known.final is None:
                return self._hold(ask, fence, known.deadline_ms)
            if known.digest not in (ask.digest, "*"):
                return OtherBody()
            if known.final is not None:
                bare = {"state": known.final, "final": "1", "request_id": ask.request_id}
                return Ended(known.entry_id, store.allocation(ask.request_id) or bare)
            if owning:
                return Lost()
            _add_reply_to(known, ask.reply_to)
            store.settle(entry)
            return Duplicate()
        if ask.decline:
            return Declined()
        if not store.settle(entry):
            return Lost()
        deadline_ms = entry.enqueued_at_ms + ask.timeout_ms
        record = Record(ask.digest, entry.entry_id, entry.priority, fence, entry.raw or b"", deadline_ms)
        _add_reply_to(record, ask.reply_to)
        store.records[ask.request_id] = record
        fields = {
            "state": "allocating",
            "request_id": ask.request_id,
            "priority": entry.priority.value,
            "enqueued_at": str(entry.enqueued_at_ms),
            "updated_at": str(store.now_ms()),
        }
        store.drop_allocation(ask.request_id)
        store.write_allocation(ask.request_id, fields | ({"context": ask.context} if ask.context else {}))
        store.leases[ask.request_id] = store.now_ms() + self._lease_ms
        return self._hold(ask, fence, deadline_ms)

    def _hold(self, ask: Reservation, fence: str, deadline_ms: int) -> Hold:
        entry = ask.entry
        return Hold(
            request_id=ask.request_id,
            fence=fence,
            entry_id=entry.entry_id,
            priority=entry.priority,
            deadline_ms=deadline_ms,
            raw=entry.raw or b"",
            doubtful=entry.enqueued_at_ms < self._store.doubted_ms + DOUBT_MS,
        )

    async def reclaim(self, count: int) -> list[Hold]:
        """See `Broker.reclaim`."""
        store = self._ask()
        now_ms, prefix = store.now_ms(), self._fences.new()
        lapsed = sorted((until_ms, request_id) for request_id, until_ms in store.leases.items() if until_ms <= now_ms)
        holds = []
        for index, (_, request_id) in enumerate(lapsed[:count], 1):
            record = store.record(request_id)
            if record is None or record.final is not None or record.body is None or record.priority is None:
                del store.leases[request_id]
                continue
            record.fence, record.takes = f"{prefix}.{index}", record.takes + (not (record.clean or record.unbegun))
            uncertain, record.clean = not record.clean, False
            record.unbegun = record.takes > SUSPECT_TAKES
            store.unpark(request_id, record)
            store.leases[request_id] = now_ms + self._lease_ms
            attempts = store.allocation(request_id).get("attempts")
            holds.append(
                Hold(
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
                    doubtful=int(record.entry_id.partition("-")[0]) < store.doubted_ms + DOUBT_MS,
                    trail=record.trail,
                )
            )
        return holds

    async def begin(self, hold: Hold) -> bool:
        """See `Broker.begin`."""
        record = self._ask().owned(hold.request_id, hold.fence)
        if record is not None:
            record.unbegun = False
        return record is not None

    async def renew(self, holds: Sequence[Hold]) -> list[bool]:
        """See `Broker.renew`."""
        store, kept = self._ask(), []
        for hold in holds:
            ours = store.owned(hold.request_id, hold.fence) is not None
            if ours:
                store.leases[hold.request_id] = store.now_ms() + self._lease_ms
            kept.append(ours)
        return kept

    async def note(self, hold: Hold, attempts: tuple[Attempt, ...], code: Code, message: str) -> bool:
        """See `Broker.note`."""
        store = self._ask()
        if store.owned(hold.request_id, hold.fence) is None:
            return False
        said = {"attempts": encode_attempts(attempts), "error_code": code.value, "error_message": message}
        store.write_allocation(hold.request_id, {**said, "updated_at": str(store.now_ms())})
        return True

    async def next_generation(self, hold: Hold, condemned: Sequence[Condemned]) -> int | None:
        """See `Broker.next_generation`."""
        store = self._ask()
        record = store.owned(hold.request_id, hold.fence)
        if record is None:
            return None
        if record.generation == hold.generation:
            record.generation += 1
            for each in condemned:
                store.condemn(each, FIRST_STOP_MS)
        return record.generation

    async def commit(self, ending: Ending) -> CommitReply:
        """See `Broker.commit`."""
        store, hold = self._ask(), ending.hold
        record = store.record(hold.request_id)
        if record is None or record.fence != hold.fence:
            return Stale(record.final, _id(record)) if record else Stale()
        if record.final is not None:
            return Already(_id(record))
        if ending.session is not None:
            provider, session_id = ending.session
            names = {ending.session, (provider, ending.native_id or session_id)}
            if not names.isdisjoint(store.condemned):
                return IsCondemned()
        for each in ending.condemn:
            store.condemn(each, 0)
        state = ending.fields["state"]
        store.drop_allocation(hold.request_id, "error_code", "error_message")
        store.write_allocation(hold.request_id, dict(ending.fields), keep_ms=ending.keep_ms)
        record.final, record.session, record.native_id = state, ending.session, ending.native_id
        if ending.bury is not None and record.priority is not None:
            entry = Entry(record.priority, record.entry_id, record.body)
            message = ending.fields.get("error_message", "")
            store.dead_letters.append(DeadLetter(ending.bury.value, message, hold.request_id, entry))
        record.body, record.clean, record.trail = None, False, ending.trail or record.trail
        record.expires_at_ms = store.now_ms() + ending.keep_ms
        store.leases.pop(hold.request_id, None)
        store.announce(hold.request_id, state, ending.event, record.reply_to)
        return Done()

    async def refuse(self, refusal: Refusal) -> bool:
        """See `Broker.refuse`."""
        store, request_id = self._ask(), refusal.request_id
        if not store.settle(refusal.entry):
            return False
        if refusal.bury:
            letter = DeadLetter(refusal.code.value, refusal.message, request_id or "", refusal.entry)
            store.dead_letters.append(letter)
        if request_id is None:
            return False
        state, event, failed = refusal.state, refusal.event, False
        if refusal.failure is not None and store.record(request_id) is None:
            state, event, failed = refusal.failure["state"], refusal.failure_event, True
            store.drop_allocation(request_id)
            store.write_allocation(request_id, dict(refusal.failure), keep_ms=self._result_ttl_ms)
            expires_at_ms = store.now_ms() + self._result_ttl_ms
            store.records[request_id] = Record(
                "unreadable", refusal.entry.entry_id, final=state, expires_at_ms=expires_at_ms
            )
        store.announce(request_id, state, event, [refusal.reply_to] if refusal.reply_to else [])
        return failed

    async def hand_back(self, holds: Sequence[tuple[Hold, bool]]) -> None:
        """See `Broker.hand_back`."""
        store = self._ask()
        for hold, clean in holds:
            record = store.owned(hold.request_id, hold.fence)
            if record is not None:
                store.leases[hold.request_id] = 0
                record.clean = record.clean or clean

    async def claim_condemned(self, count: int, hold_ms: int) -> list[Condemned]:
        """See `Broker.claim_condemned`."""
        store = self._ask()
        now_ms = store.now_ms()
        due = sorted((at_ms, "/".join(name), name) for name, at_ms in store.due_ms.items() if at_ms <= now_ms)[:count]
        for _, _, name in due:
            store.due_ms[name] = now_ms + hold_ms
        found = [store.condemned[name] for _, _, name in due]
        return [replace(each, before_loss=each.since_ms <= store.loss_ms) for each in found]

    async def recheck(self, condemned: Condemned, after_ms: int | None) -> None:
        """See `Broker.recheck`."""
        store, name = self._ask(), (condemned.provider, condemned.session_id)
        if after_ms is None:
            store.condemned.pop(name, None)
            store.due_ms.pop(name, None)
        elif name in store.due_ms:
            store.due_ms[name] = store.now_ms() + after_ms

    async def survey(self) -> Survey:
        """See `Broker.survey`."""
        store = self._ask()
        now_ms, depths = store.now_ms(), {}
        for priority, stream in store.streams.items():
            waited_ms = now_ms - stream.fresh[0].enqueued_at_ms if stream.fresh else 0
            depths[priority] = Depth(len(stream.fresh), len(stream.pending), max(0, waited_ms) / 1000)
        parked = len(store.parked)
        held = len(store.leases) - parked
        return Survey(held=held, condemned=len(store.condemned), depths=depths, parked=parked)

    async def close(self) -> None:
        """See `Broker.close`: here no name is kept of a worker."""

    def _ask(self) -> MemoryStore:
        if self._store.away:
            raise BrokerUnavailable("the store is away")
        return self._store

    async def _ask_group(self) -> MemoryStore:
        """A store that was lost has no group: it is made anew, and the step is to be repeated."""
        store = self._ask()
        if not store.grouped:
            await self.prepare()
            raise BrokerUnavailable("the group was lost", "no_group")
        return store


def _add_reply_to(record: Record, name: str | None) -> None:
    if name:
        record.reply_to = [*(each for each in record.reply_to if each != name), name][-REPLY_TO_MAX:]


def _id(record: Record) -> str | None:
    return record.session[1] if record.session else None
