"""The store with a memory of what it was told: who was ever condemned, who was ever at its end.

In: the twin's own calls. Out: the same, written down. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from allocator.broker.broker import Condemned
from allocator.broker.memory_store import MemoryStore
from allocator.contract.identity import session_id

KEPT = (
    "deployment",
    "contract",
    "grouped",
    "streams",
    "records",
    "leases",
    "parked",
    "lots",
    "lots_served_ms",
    "lot_turns",
    "levers",
    "condemned",
    "due_ms",
    "orders_fresh",
    "orders_pending",
    "signals",
    "beat",
    "loss_ms",
    "suspected_ms",
    "known_history",
    "turn_until_ms",
    "stops",
    "orphans",
    "_hashes",
    "_hash_expires_at_ms",
)


class WatchedStore(MemoryStore):
    """A store whose past can be asked for."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.ever_condemned: set[tuple[str, str]] = set()
        self.handed_over: set[str] = set()
        """Session ids that an allocated hash has named."""
        self.losses = 0
        self.lost_at_ms = 0
        self.undone: set[str] = set()
        """Session ids of which a loss has undone what was on record."""
        super().__init__(now_ms)

    def snapshot(self) -> dict[str, Any]:
        """What a disk would hold: everything but the ledger."""
        return {name: deepcopy(getattr(self, name)) for name in KEPT}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to it; what came since is lost."""
        before = self._on_record()
        for name, value in snapshot.items():
            setattr(self, name, deepcopy(value))
        self.undone |= {name for _, name in before - self._on_record()}
        self.losses += 1
        self.history += 1
        self.lost_at_ms = self.now_ms()
        self.wake()

    def _on_record(self) -> set[tuple[str, str]]:
        """Of which sessions it knows that they are in play, may be called under, or must not live."""
        named = [hashed["session_id"] for hashed in self._hashes.values() if hashed.get("state") == "allocated"]
        current = [
            session_id(self.deployment or "", request_id, record.generation)
            for request_id, record in self.records.items()
            if record.final is None
        ]
        condemned = [name for _, name in self.condemned]
        return {
            *(("in play", name) for name in named),
            *(("called under", name) for name in current),
            *(("condemned", name) for name in condemned),
        }

    def condemn(self, condemned: Condemned, delay_ms: int) -> None:
        self.ever_condemned.add((condemned.provider, condemned.session_id))
        super().condemn(condemned, delay_ms)

    def write_allocation(self, request_id: str, fields: dict[str, str], *, keep_ms: int | None = None) -> None:
        if fields.get("state") == "allocated":
            self.handed_over.add(fields["session_id"])
        super().write_allocation(request_id, fields, keep_ms=keep_ms)
