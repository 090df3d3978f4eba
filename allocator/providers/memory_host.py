"""The host behind the in-memory provider: its locations, their limits, and the ledger of sessions.

In: starts and ends, each with the moment it arrives. Out: the outcome of a start, and every session that was ever
created. Promised: an id is used once for ever; a session ends at its `ttl`; nothing here awaits or asks for the time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from allocator.contract.allocation import Port
from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK, ttl_seconds
from allocator.providers.ports import named
from allocator.providers.provider import (
    Conflict,
    Created,
    NoRoom,
    NotFound,
    Session,
    SessionState,
    StartOutcome,
    StartSpec,
)

_ADDRESS = "127.0.0.1"
_FIRST_PORT = 20_000
_PORTS = 10_000


@dataclass(frozen=True, slots=True)
class MemoryLocation:
    """What one location can take: sessions alive at once, starts in any rolling second; None is no limit."""

    capacity: int | None = None
    starts_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One session that was ever created, in the loop's seconds; `ended_by` is `stop`, `ttl` or `exit`."""

    session: Session
    spec: StartSpec
    created_at_seconds: float
    ended_at_seconds: float | None = None
    ended_by: str | None = None


class MemoryHost:
    """Sessions by id; `locations` may be changed at any time."""

    def __init__(self, locations: Mapping[str, MemoryLocation]) -> None:
        self.locations = dict(locations)
        self._ledger: dict[str, LedgerEntry] = {}
        self._unended: dict[str, int] = {}
        self._ends: list[tuple[float, str]] = []
        self._recent: dict[str, deque[float]] = {}

    def ledger(self, now_seconds: float) -> Mapping[str, LedgerEntry]:
        """Every session that was ever created, by its id, as of this moment."""
        while self._ends and self._ends[0][0] <= now_seconds:
            at_seconds, session_id = heapq.heappop(self._ends)
            self.end(session_id, "ttl", at_seconds)
        return MappingProxyType(self._ledger)

    def create(self, session_id: str, location: str, spec: StartSpec, now_seconds: float) -> StartOutcome:
        """Start one session if its id is new and its location has room."""
        limits = self.locations.get(location)
        if limits is None:
            return NotFound(404, f"location {location!r} is unknown")
        if session_id in self.ledger(now_seconds):
            return Conflict(409, f"session {session_id!r} exists or existed")
        if not self._has_room(location, limits, now_seconds):
            return NoRoom(420, message=f"no room at {location!r}")
        session = Session(
            id=session_id,
            host=_ADDRESS,
            ports=(Port("7777/udp", "udp", 7777, _FIRST_PORT + len(self._ledger) % _PORTS),),
            location=location,
            image=spec.image,
            mark=spec.labels.get(MARK),
            request_id=spec.labels.get(REQUEST_MARK),
            namespace=spec.labels.get(NAMESPACE_MARK),
            created_at_ms=int(now_seconds * 1000),
        )
        self.enter(session, spec, now_seconds)
        if spec.ttl is not None:
            heapq.heappush(self._ends, (now_seconds + ttl_seconds(spec.ttl), session_id))
        # A reply to a start tells neither label nor time; a look-up tells no catalog name.
        ports = named(session.ports, spec.port_names)
        told = replace(session, ports=ports, mark=None, request_id=None, namespace=None, created_at_ms=None)
        return Created(told, 201)

    def enter(self, session: Session, spec: StartSpec, now_seconds: float) -> None:
        """Write a session into the ledger, whatever the limits."""
        if session.id in self._ledger:
            raise ValueError(f"session {session.id!r} is in the ledger; take another id")
        self._ledger[session.id] = LedgerEntry(session, spec, now_seconds)
        if session.state is not SessionState.ENDED:
            self._unended[session.location] = self._unended.get(session.location, 0) + 1

    def end(self, session_id: str, ended_by: str, now_seconds: float) -> bool:
        """Bring a session to its end; False where there is none or it has ended."""
        entry = self._ledger.get(session_id)
        if entry is None or entry.session.state is SessionState.ENDED:
            return False
        ended = replace(entry.session, state=SessionState.ENDED)
        self._ledger[session_id] = replace(entry, session=ended, ended_at_seconds=now_seconds, ended_by=ended_by)
        self._unended[ended.location] -= 1
        return True

    def set_unended_state(self, session_id: str, state: SessionState) -> None:
        """Let a session that has not ended be alive or unclear."""
        entry = self._ledger[session_id]
        if SessionState.ENDED in {state, entry.session.state}:
            raise ValueError(f"session {session_id!r}: an end is final, and made by `end`")
        self._ledger[session_id] = replace(entry, session=replace(entry.session, state=state))

    def with_room(self, now_seconds: float) -> frozenset[str]:
        """The locations that are not full, however fast they were asked."""
        self.ledger(now_seconds)
        return frozenset(name for name, limits in self.locations.items() if not self._is_full(name, limits))

    def _is_full(self, location: str, limits: MemoryLocation) -> bool:
        return limits.capacity is not None and self._unended.get(location, 0) >= limits.capacity

    def _has_room(self, location: str, limits: MemoryLocation, now_seconds: float) -> bool:
        """Whether one more may start; if so it counts towards the rate."""
        if self._is_full(location, limits):
            return False
        if limits.starts_per_second is not None:
            recent = self._recent.setdefault(location, deque())
            while recent and recent[0] <= now_seconds - 1.0:
                recent.popleft()
            if len(recent) >= limits.starts_per_second:
                return False
            recent.append(now_seconds)
        return True
