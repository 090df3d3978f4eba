"""What no record explains is counted for a person, and nobody stops or condemns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.broker.census import OrphanKind
from tests.simulation.levers import PROVIDER

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet


class Orphans:
    """Promises about what the reconciler makes of a list."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def settled(self) -> bool:
        return True

    def look(self) -> None:
        """Nothing to see before the end."""

    def judge(self) -> None:
        fleet, world = self._fleet, self._fleet.world
        for stranger in fleet.strangers:
            name = stranger.id
            if world.host.ledger[name].ended_by == "stop":
                world.trace.violated(f"what no record explains is never stopped: {name[:8]}")
            if (PROVIDER, name) in fleet.store.ever_condemned:
                world.trace.violated(f"what no record explains is condemned by nobody: {name[:8]}")
        if world.scenario.through_the_horizon:
            self._judge_the_count()

    def _judge_the_count(self) -> None:
        """After minutes of calm the last pass has seen the fleet at rest."""
        fleet, world = self._fleet, self._fleet.world
        _, tally, orphans = fleet.store.orphans.get(PROVIDER, (0, None, ()))
        if tally is None:
            world.trace.violated("somebody counts the orphans")
            return
        alive = {session.id for session in world.host.alive()}
        counted = {each.session_id: each.kind for each in orphans}
        for stranger in fleet.strangers:
            if stranger.id in alive and counted.get(stranger.id) is not OrphanKind.UNEXPLAINED:
                world.trace.violated(f"what no record explains is counted: {stranger.id[:8]}")
        for name in counted:
            if not fleet.owns(name):
                world.trace.violated(f"another's session is no orphan of ours: {fleet.name} {name[:8]}")
        for request_id in fleet.matchmaker.asked:
            hashed = fleet.store.allocation(request_id)
            if hashed.get("state") == "allocated" and hashed.get("session_id") in counted:
                world.trace.violated(f"a match in play is no orphan: {request_id}")
        for name in alive - {stranger.id for stranger in fleet.strangers}:
            asked_by = world.host.ledger[name].session.request_id
            record = fleet.store.record(asked_by or "")
            explained = name in counted or (record is not None and record.session == (PROVIDER, name))
            if fleet.owns(name) and not explained and not fleet.store.losses:
                world.trace.violated(f"what lives is in play or counted: {asked_by} {name[:8]}")
