"""What a loss of Redis may leave behind: sessions whose record it undid. They are seen as orphans, and never stopped.

In: the world at rest after losses. Out: violations. That nothing is stopped which was ever handed over is `sessions`'
to judge, as it happens; here it is what lives on beside the session that the hash names.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from allocator.broker.census import Snapshot
from allocator.broker.memory_census import MemoryCensus
from allocator.engine.observer import Event, LeftAlone
from allocator.engine.reconciler import Reckoning, reckon
from allocator.providers.provider import LANDING_HORIZON_MS
from tests.simulation.levers import PROVIDER

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet


class Losses:
    """Promises about the sessions of a fleet whose store has lost its tail."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._left_alone: set[str] = set()
        self._in_play: dict[str, tuple[set[str], int]] = {}
        """By request that was asked for after a loss: what ran for it then, and how many losses there had been."""

    def heard(self, event: Event) -> None:
        """Take note of what a stopper was told to stop before a loss, and did not."""
        if isinstance(event, LeftAlone):
            self._left_alone.add(event.session_id)

    def asked_again(self, request_id: str) -> None:
        """It was reserved while a loss was known: what was handed over for it and runs is to be found."""
        store, running = self._fleet.store, self._running(request_id)
        condemned = {name for _, name in store.ever_condemned}
        self._in_play[request_id] = ((running & store.handed_over) - condemned, store.losses)

    def starts(self, request_id: str) -> None:
        """A start is sent."""
        in_play, losses = self._in_play.get(request_id, (set(), 0))
        if losses == self._fleet.store.losses and in_play & self._running(request_id):
            promise = "who asks again after a loss gets the server that runs for it, and starts no other"
            self._fleet.world.trace.violated(f"{promise}: {request_id}")

    def _running(self, request_id: str) -> set[str]:
        alive = self._fleet.world.host.alive()
        return {each.id for each in alive if each.request_id == request_id and self._fleet.owns(each.id)}

    def settled(self) -> bool:
        return True

    def look(self) -> None:
        """Nothing to see before the end."""

    def judge(self) -> None:
        fleet, world = self._fleet, self._fleet.world
        if not fleet.store.losses:
            return
        orphans = {each.session_id for each in self._reckoning().orphans}
        for request_id, alive in fleet.sessions.alive_of_requests().items():
            hashed = fleet.store.allocation(request_id)
            named = hashed.get("session_id") if hashed.get("state") == "allocated" else None
            for name in alive:
                if name == named:
                    continue
                if name not in fleet.store.undone | self._left_alone and not self._remains(request_id, name):
                    world.trace.violated(f"no session is left over but by a loss: {request_id} {name[:8]}")
                if name not in orphans:
                    world.trace.violated(f"what a loss leaves behind is an orphan: {request_id} {name[:8]}")

    def _remains(self, request_id: str, name: str) -> bool:
        kept = self._fleet.remains.get(request_id)
        return kept is not None and kept.id == name

    def _reckoning(self) -> Reckoning:
        """What a reconciler's pass makes of it once nothing can land any more."""
        fleet, store = self._fleet, self._fleet.store
        before = Snapshot(
            now_ms=store.now_ms() + LANDING_HORIZON_MS,
            deployment=store.deployment,
            loss_ms=store.loss_ms,
            under_way=frozenset(store.leases),
            condemned=frozenset(store.condemned),
        )
        alive = [each for each in fleet.world.host.alive() if fleet.owns(each.id)]
        return _at_once(reckon(MemoryCensus(store), before, PROVIDER, alive, fleet.namespace))


def _at_once(step: Coroutine[Any, Any, Reckoning]) -> Reckoning:
    """Run a step of the twin, which waits for nothing."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # what a coroutine returns
    raise AssertionError("the twin's census waits for nobody")
