"""The census's twin: the same steps over the `MemoryStore` that the broker's twin uses."""

from __future__ import annotations

from collections.abc import Sequence

from allocator.broker.broker import BrokerUnavailable
from allocator.broker.census import ORPHANS_KEPT_MS, STOPS_WINDOW_MS, Orphan, Sighting, Snapshot, Standing, Tally
from allocator.broker.memory_store import MemoryStore


class MemoryCensus:
    """One worker's view of a store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def turn(self, hold_ms: int) -> bool:
        """See `Census.turn`."""
        store = self._ask()
        if store.now_ms() < store.turn_until_ms:
            return False
        store.turn_until_ms = store.now_ms() + hold_ms
        return True

    async def lead(self, hold_ms: int) -> bool:
        """See `Census.lead`."""
        store = self._ask()
        if store.leader is not self and store.now_ms() < store.lead_until_ms:
            return False
        store.leader, store.lead_until_ms = self, store.now_ms() + hold_ms
        return True

    async def snapshot(self) -> Snapshot:
        """See `Census.snapshot`."""
        store = self._ask()
        return Snapshot(
            now_ms=store.now_ms(),
            deployment=store.deployment,
            loss_ms=max(0, store.loss_ms),
            under_way=frozenset(store.leases),
            condemned=frozenset(store.condemned),
        )

    async def standings(self, sightings: Sequence[Sighting]) -> list[Standing]:
        """See `Census.standings`."""
        self._ask()
        return [self._standing(each) for each in sightings]

    async def hasten(self, provider: str, session_ids: Sequence[str], per_minute_max: int) -> int:
        """See `Census.hasten`."""
        store = self._ask()
        now_ms, handed = store.now_ms(), 0
        recent = {name: at_ms for name, at_ms in store.stops.items() if at_ms > now_ms - STOPS_WINDOW_MS}
        for session_id in session_ids:
            name = (provider, session_id)
            if name in store.condemned and (name in recent or len(recent) < per_minute_max):
                recent[name] = store.due_ms[name] = now_ms
                handed += 1
        store.stops = recent
        return handed

    async def keep(self, provider: str, tally: Tally, orphans: Sequence[Orphan]) -> None:
        """See `Census.keep`."""
        store = self._ask()
        store.orphans[provider] = (store.now_ms() + ORPHANS_KEPT_MS, tally, tuple(orphans))

    async def tally(self, provider: str) -> Tally | None:
        """See `Census.tally`."""
        store = self._ask()
        until_ms, tally, _ = store.orphans.get(provider, (0, None, ()))
        return tally if store.now_ms() < until_ms else None

    def _standing(self, sighting: Sighting) -> Standing:
        store, request_id = self._store, sighting.request_id or ""
        public_id = sighting.native_id or sighting.session_id
        names = {(sighting.provider, sighting.session_id), (sighting.provider, public_id)}
        record, answer = store.record(request_id), store.allocation(request_id)
        named = record.session[1] if record is not None and record.session is not None else None
        is_named = record is not None and record.final == "allocated" and named == sighting.session_id
        if is_named and record is not None and (record.native_id or public_id) == public_id:
            return Standing.IN_PLAY
        if answer.get("state") == "allocated" and answer.get("session_id") == public_id:
            return Standing.IN_PLAY
        if not names.isdisjoint(store.condemned):
            return Standing.CONDEMNED
        if is_named:
            return Standing.DOUBLED
        if record is None:
            return Standing.NO_RECORD
        if record.final is not None:
            return Standing.OTHERWISE
        return Standing.UNDER_WAY if record.body is not None else Standing.NO_RECORD

    def _ask(self) -> MemoryStore:
        if self._store.away:
            raise BrokerUnavailable("the store is away")
        return self._store
