"""One session for one request, and none is stopped but the condemned.

What is promised of a session that a warm pool serves under an id of its own is less: nobody can look it up by the id of
its request. Where the answer that named it was not heard, or died with the process that heard it, it may be left beside
another one; it is never stopped for that. Once a process knows a pool for one, it waits after an unknown answer there
and goes nowhere else (`calls`).

Where Redis lost its tail, a session may be stopped that was handed over, if the stop was sent by who could not know
yet: within `FRESH_SECONDS` of a claim that the store answered before it lost the claim.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allocator.contract.identity import session_id
from allocator.engine.stopper import FRESH_SECONDS
from allocator.providers.memory import StartCall, StopCall

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

GENERATIONS_MAX = 60
LANDS_SECONDS = 5.0
"""A stop that was sent lands within this: half of the longest latency, and the way there."""


class Sessions:
    """Promises about the sessions of one fleet at the host."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stops_seen = 0
        self._starts_seen = 0
        self._generations: dict[str, tuple[str, int]] = {}
        self._sent: dict[str, list[tuple[float, int | None]]] = {}
        """By session id: when stops were sent, and when the store had given it out for that."""

    def names(self, name: str) -> bool:
        """Whether it is the id of a generation of one of the fleet's requests."""
        return name in self._known()

    def request_of(self, name: str) -> str | None:
        """Whose generation's id it is; None where nobody's here."""
        known = self._known().get(name)
        return known[0] if known is not None else None

    def stop_sent(self, name: str, claimed_at_ms: int | None) -> None:
        """A stop was sent by a process that had been given this id then."""
        self._sent.setdefault(name, []).append((self._fleet.world.loop.time(), claimed_at_ms))

    def settled(self) -> bool:
        """Whether nothing condemned is alive, and nothing more can land."""
        fleet, world = self._fleet, self._fleet.world
        landed = world.loop.time() > world.scenario.faults_seconds + world.scenario.host.late_seconds_max + 8.0
        alive = {session.id for session in world.host.alive()}
        return landed and not any(name in alive for _, name in fleet.store.condemned)

    def look(self) -> None:
        """Nothing to see before the end."""

    def after_host_step(self) -> None:
        """Judge each stop at the moment it takes effect, each start as it arrives."""
        host = self._fleet.world.host
        while self._starts_seen < len(host.starts):
            start = host.starts[self._starts_seen]
            self._starts_seen += 1
            if self.names(start.session_id):
                self._judge_start(start)
        while self._stops_seen < len(host.stops):
            stop = host.stops[self._stops_seen]
            self._stops_seen += 1
            if stop.ended and self._fleet.owns(stop.session_id):
                self._judge_stop(stop)

    def judge(self) -> None:
        of_request = self.alive_of_requests()
        for request_id in self._fleet.matchmaker.asked:
            self._judge(request_id, of_request.get(request_id, []))

    def alive_of_requests(self) -> dict[str, list[str]]:
        """By request: the sessions that run for it."""
        fleet, world = self._fleet, self._fleet.world
        alive = {session.id: session for session in world.host.alive()}
        of_request: dict[str, list[str]] = {}
        for name, entry in world.host.ledger.items():
            request_id = entry.spec.labels.get("match")
            if name in alive and request_id is not None and fleet.owns(name):
                of_request.setdefault(request_id, []).append(name)
        for request_id, session in fleet.remains.items():
            if session.id in alive:
                of_request.setdefault(request_id, []).append(session.id)
        return of_request

    def _judge(self, request_id: str, alive: list[str]) -> None:
        fleet, world = self._fleet, self._fleet.world
        hashed = fleet.store.allocation(request_id)
        named = hashed.get("session_id") if hashed.get("state") == "allocated" else None
        if named is not None and (named not in world.host.ledger or not fleet.owns(named)):
            world.trace.violated(f"a session that is handed over exists, and is ours: {request_id}")
        if fleet.store.losses:
            return  # what was lost may have been handed over and is left alone: see `losses`
        alive = [name for name in alive if name == named or not self._unheard(name)]
        kept = fleet.remains.get(request_id)
        if kept is not None and named is not None and not self.names(named):
            alive = [name for name in alive if name != kept.id]  # the pool's session met no conflict with it
        if len(alive) > 1:
            world.trace.violated(f"at most one session is left for a request: {request_id}: {_short(alive)}")
        for name in alive:
            # what ran before the store was emptied, and no end of ours concerns, is for a person or its ttl to end
            orphan = kept is not None and name == kept.id and named is None
            if name == named and request_id in fleet.matchmaker.cancelled:
                world.trace.violated(f"no server is left for what was cancelled: {request_id}")
            if name != named and not orphan:
                world.trace.violated(
                    f"what is left is what the hash names: {request_id}: {name[:8]} lives, {hashed.get('state')}"
                )
        # what a worker that slept finds is adopted unasked, for it may be in play
        last = json.loads(hashed.get("attempts", "[]"))[-1:]
        created = any(each["outcome"] == "created" for each in last)
        if named is not None and created and fleet.policy.ready_checks and not world.has_listened(named):
            world.trace.violated(f"what is handed over has answered: {request_id} {named[:8]}")
        if named in world.dice.known_ended:
            world.trace.violated(f"what is handed over was not known to have ended: {request_id}")

    def _unheard(self, name: str) -> bool:
        """Whether a pool serves it under an id that nobody who lives on was told."""
        hearer = self._fleet.hearers.get(name)
        request_id = self._fleet.world.host.ledger[name].spec.labels.get("match")
        if self._fleet.policy.ready_checks and request_id in self._fleet.ends.changed_hands and not self.names(name):
            return True  # who heard of it lost the request while its game was being asked
        remains = any(name == session.id for session in self._fleet.remains.values())
        return not remains and not self.names(name) and (hearer is None or hearer.broken_off)

    def _judge_start(self, start: StartCall) -> None:
        """A call for a later generation is made once the host has said of each earlier one that it does not live."""
        fleet, world = self._fleet, self._fleet.world
        request_id, generation = self._known()[start.session_id]
        if fleet.store.losses:
            return
        for earlier in range(1, generation):
            name = session_id(fleet.deployment, request_id, earlier)
            if name not in world.dice.looked_up and not world.is_silent(name, request_id):
                world.trace.violated(f"nothing is started while another may live: {request_id} {start.session_id[:8]}")

    def _known(self) -> dict[str, tuple[str, int]]:
        if not self._generations:
            for request_id in self._fleet.matchmaker.ids:
                for number in range(1, GENERATIONS_MAX):
                    self._generations[session_id(self._fleet.deployment, request_id, number)] = (request_id, number)
        return self._generations

    def _judge_stop(self, stop: StopCall) -> None:
        fleet, world = self._fleet, self._fleet.world
        request_id = self._request_of(stop.session_id)
        if not any(name == stop.session_id for _, name in fleet.store.ever_condemned):
            world.trace.violated(f"only the condemned are stopped: {request_id} {stop.session_id[:8]}")
        hashed = fleet.store.allocation(request_id) if request_id else {}
        if request_id in fleet.matchmaker.cancelled:
            return
        kept = fleet.remains.get(request_id or "")
        if kept is not None and kept.id == stop.session_id and hashed.get("error_code") == "id_conflict":
            world.trace.violated(f"a match in play of another image is never stopped: {request_id}")
        if self._sent_unknowing(stop):
            return
        if stop.session_id in fleet.store.handed_over:
            world.trace.violated(f"a match that was handed over is never stopped: {request_id} {stop.session_id[:8]}")
        if hashed.get("state") == "allocated" and hashed.get("session_id") == stop.session_id:
            world.trace.violated(f"a match in play is never stopped: {request_id} {stop.session_id[:8]}")

    def _sent_unknowing(self, stop: StopCall) -> bool:
        """Whether it was sent on the word of a store that has lost this word since, and at once."""
        fleet, now, store = self._fleet, self._fleet.world.loop.time(), self._fleet.store
        for sent_at, claimed_at_ms in self._sent.get(stop.session_id, ()):
            if claimed_at_ms is None or not store.losses or now - sent_at > LANDS_SECONDS:
                continue
            at_once = fleet.now_ms(sent_at) - claimed_at_ms <= FRESH_SECONDS * 1000
            if at_once and claimed_at_ms <= store.lost_at_ms:
                return True
        return False

    def _request_of(self, name: str) -> str | None:
        entry = self._fleet.world.host.ledger[name]
        if (match := entry.spec.labels.get("match")) is not None:
            return match
        return next((each for each, session in self._fleet.remains.items() if session.id == name), None)


def _short(names: list[str]) -> str:
    return ", ".join(name[:8] for name in names)
