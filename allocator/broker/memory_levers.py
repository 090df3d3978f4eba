"""The levers' twin: the same fields in the `MemoryStore` that the broker's twin uses."""

from __future__ import annotations

from allocator.broker.broker import BrokerUnavailable
from allocator.broker.levers import DRAINED, PAUSED, RATE, Levers, levers_of
from allocator.broker.memory_store import MemoryStore


class MemoryLevers:
    """One worker's, or one person's, view of a store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def read(self) -> Levers:
        """See `LeverBoard.read`."""
        store = self._ask()
        now_ms = store.now_ms()
        ends = {name: int(text.partition(" ")[0]) for name, text in store.levers.items()}
        store.levers = {name: text for name, text in store.levers.items() if not 0 < ends[name] <= now_ms}
        return levers_of(store.levers)

    async def pause(self, for_ms: int | None) -> None:
        """See `LeverBoard.pause`."""
        self._set(PAUSED, for_ms)

    async def resume(self) -> None:
        """See `LeverBoard.resume`."""
        self._undo(PAUSED)

    async def drain(self, region: str, for_ms: int | None) -> None:
        """See `LeverBoard.drain`."""
        self._set(DRAINED + region, for_ms)

    async def set_rate(self, region: str, rate: float, for_ms: int | None) -> None:
        """See `LeverBoard.set_rate`."""
        self._set(RATE + region, for_ms, repr(rate))

    async def resume_region(self, region: str) -> None:
        """See `LeverBoard.resume_region`."""
        self._undo(DRAINED + region, RATE + region)

    def _set(self, name: str, for_ms: int | None, value: str = "") -> None:
        store = self._ask()
        store.levers[name] = f"{0 if for_ms is None else store.now_ms() + for_ms} {value}"

    def _undo(self, *names: str) -> None:
        store = self._ask()
        for name in names:
            store.levers.pop(name, None)

    def _ask(self) -> MemoryStore:
        if self._store.away:
            raise BrokerUnavailable("the store is away")
        return self._store
