"""What one process may call: it starts and stops its own fleet's sessions alone, and stops nothing by absence.

In: each call as it is sent, each answer as it is heard. Out: violations. Judged at the sender: a call that never
arrives is as wrong as one that does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from allocator.broker.broker import Entry
from allocator.providers.provider import Created, FindOutcome, Found, SessionState, StartOutcome, Unknown
from tests.simulation.checkers.obeyed import Obeyed

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet
    from tests.simulation.levers import LeversInForce
    from tests.simulation.views import BrokerView


class CallsOfOne:
    """Promises about the calls of one process."""

    def __init__(self, process: str, fleet: Fleet, view: BrokerView, levers: LeversInForce) -> None:
        self._process = process
        self._fleet = fleet
        self._obeyed = Obeyed(fleet, levers)
        self._taken: set[str] = set()
        self._view = view
        self.created: dict[str, str] = {}
        """By request: the session that it was last told of."""
        self._pools: set[str] = set()
        """Locations that are known to serve under ids of their own."""
        self._unanswered: dict[str, tuple[str, str]] = {}
        """By request: the start at a pool of which nobody knows what became, and whose the request was by its fence."""

    def takes(self, entries: Iterable[Entry]) -> None:
        """Entries are about to be reserved, some of them once more."""
        for entry in entries:
            if entry.entry_id not in self._taken:
                self._taken.add(entry.entry_id)
                self._obeyed.takes(entry.entry_id)

    def starts(self, request_id: str, session_id: str, location: str) -> None:
        """A start is sent: nobody else's, and none while a pool may have served the one before."""
        if not self._fleet.sessions.names(session_id):
            self._violated(f"a start bears the id of its request: {request_id} {session_id[:8]}")
        self._obeyed.starts(request_id, location)
        self._fleet.losses.starts(request_id)
        self._fleet.world.repeats.starts(self._process, request_id, self._fence(request_id))
        before, fence = self._unanswered.pop(request_id, ("", ""))
        if before and fence == self._fence(request_id) and not self._fleet.store.losses:
            self._violated(f"where a pool gives ids of its own, an unknown answer waits: {request_id} {before[:8]}")

    def started(self, request_id: str, session_id: str, location: str, outcome: StartOutcome) -> None:
        """A start was answered, or not."""
        if isinstance(outcome, Created):
            self.created[request_id] = outcome.session.id
            if outcome.session.id != session_id:
                self._pools.add(location)
        elif isinstance(outcome, Unknown):
            fence = self._fence(request_id)
            self._fleet.world.repeats.unknown(self._process, request_id, fence)
            if location in self._pools:
                self._unanswered[request_id] = (session_id, fence)

    def found(self, session_id: str, outcome: FindOutcome) -> None:
        """A session that has ended was the one, or one whose game never listens: the pool had not served it."""
        state = outcome.session.state if isinstance(outcome, Found) else None
        if state is SessionState.ENDED or (state is SessionState.ALIVE and self._fleet.policy.ready_checks):
            self._unanswered = {name: each for name, each in self._unanswered.items() if each[0] != session_id}

    def stops(self, session_id: str) -> None:
        """A stop is sent: of one that was condemned here, and that is no one else's."""
        fleet, name = self._fleet, session_id[:8]
        if not fleet.owns(session_id):
            self._violated(f"nobody stops another's session: {fleet.name} {name}")
        if not any(known == session_id for _, known in fleet.store.ever_condemned):
            self._violated(f"nothing is stopped by absence: {fleet.name} {name}")
        fleet.sessions.stop_sent(session_id, self._view.claimed_at_ms.get(session_id))

    def _fence(self, request_id: str) -> str:
        record = self._fleet.store.record(request_id)
        return record.fence if record is not None else ""

    def _violated(self, promise: str) -> None:
        self._fleet.world.trace.violated(promise)
