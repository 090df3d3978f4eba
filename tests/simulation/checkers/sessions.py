"""One session for one request, and none is stopped but the condemned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.contract.identity import session_id
from allocator.providers.memory import StartCall, StopCall

if TYPE_CHECKING:
    from tests.simulation.world import World

GENERATIONS_MAX = 60
DEPLOYMENT = "sim"


class Sessions:
    """Promises about the sessions at the host."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stops_seen = 0
        self._starts_seen = 0
        self._generations: dict[str, tuple[str, int]] = {}

    def settled(self) -> bool:
        """Whether nothing condemned is alive, and nothing more can land."""
        world = self._world
        landed = world.loop.time() > world.scenario.faults_seconds + world.scenario.host.late_seconds_max + 8.0
        alive = {session.id for session in world.host.alive()}
        return landed and not any(name in alive for _, name in world.store.condemned)

    def look(self) -> None:
        """Nothing to see before the end."""

    def after_host_step(self) -> None:
        """Judge each stop at the moment it takes effect, each start as it arrives."""
        starts = self._world.host.starts
        while self._starts_seen < len(starts):
            self._judge_start(starts[self._starts_seen])
            self._starts_seen += 1
        stops = self._world.host.stops
        while self._stops_seen < len(stops):
            stop = stops[self._stops_seen]
            self._stops_seen += 1
            if stop.ended:
                self._judge_stop(stop)

    def judge(self) -> None:
        world = self._world
        alive = {session.id: session for session in world.host.alive()}
        of_request: dict[str, list[str]] = {}
        for name, entry in world.host.ledger.items():
            if name in alive and (request_id := entry.spec.labels.get("match")) is not None:
                of_request.setdefault(request_id, []).append(name)
        for request_id, session in world.remains.items():
            if session.id in alive:
                of_request.setdefault(request_id, []).append(session.id)
        for request_id in world.matchmaker.asked:
            self._judge(request_id, of_request.get(request_id, []))

    def _judge(self, request_id: str, alive: list[str]) -> None:
        world = self._world
        hashed = world.store.allocation(request_id)
        named = hashed.get("session_id") if hashed.get("state") == "allocated" else None
        if (
            world.store.losses
        ):  # what was lost may have been handed over: it is left alone, for a person or its ttl to end
            if named is not None and named not in world.host.ledger:
                world.trace.violated(f"a session that is handed over exists: {request_id}")
            return
        if len(alive) > 1:
            world.trace.violated(f"at most one session is left for a request: {request_id}: {_short(alive)}")
        kept = world.remains.get(request_id)
        for name in alive:
            # what ran before the store was emptied, and no end of ours concerns, is for a person or its ttl to end
            orphan = kept is not None and name == kept.id and named is None
            if name == named and request_id in world.matchmaker.cancelled:
                world.trace.violated(f"no server is left for what was cancelled: {request_id}")
            if name != named and not orphan:
                world.trace.violated(
                    f"what is left is what the hash names: {request_id}: {name[:8]} lives, {hashed.get('state')}"
                )
        if named is not None and named not in world.host.ledger:
            world.trace.violated(f"a session that is handed over exists: {request_id}")
        if named in world.dice.known_ended:
            world.trace.violated(f"what is handed over was not known to have ended: {request_id}")

    def _judge_start(self, start: StartCall) -> None:
        """A call for a later generation is made once the host has said of each earlier one that it does not live."""
        world = self._world
        request_id, generation = self._generation(start.session_id)
        if world.store.losses:
            return
        for earlier in range(1, generation):
            name = session_id(DEPLOYMENT, request_id, earlier)
            if name not in world.dice.looked_up:
                world.trace.violated(f"nothing is started while another may live: {request_id} {start.session_id[:8]}")

    def _generation(self, name: str) -> tuple[str, int]:
        if not self._generations:
            for request_id in self._world.matchmaker.ids:
                for number in range(1, GENERATIONS_MAX):
                    self._generations[session_id(DEPLOYMENT, request_id, number)] = (request_id, number)
        return self._generations[name]

    def _judge_stop(self, stop: StopCall) -> None:
        world = self._world
        request_id = self._request_of(stop.session_id)
        if not any(name == stop.session_id for _, name in world.store.ever_condemned):
            world.trace.violated(f"only the condemned are stopped: {request_id} {stop.session_id[:8]}")
        hashed = world.store.allocation(request_id) if request_id else {}
        if request_id in world.matchmaker.cancelled:
            return
        if stop.session_id in world.store.handed_over:
            world.trace.violated(f"a match that was handed over is never stopped: {request_id} {stop.session_id[:8]}")
        if hashed.get("state") == "allocated" and hashed.get("session_id") == stop.session_id:
            world.trace.violated(f"a match in play is never stopped: {request_id} {stop.session_id[:8]}")
        kept = world.remains.get(request_id or "")
        if kept is not None and kept.id == stop.session_id and hashed.get("error_code") == "id_conflict":
            world.trace.violated(f"a match in play of another image is never stopped: {request_id}")

    def _request_of(self, name: str) -> str | None:
        entry = self._world.host.ledger[name]
        if (match := entry.spec.labels.get("match")) is not None:
            return match
        return next((each for each, session in self._world.remains.items() if session.id == name), None)


def _short(names: list[str]) -> str:
    return ", ".join(name[:8] for name in names)
