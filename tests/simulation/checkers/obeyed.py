"""What operators have set holds within a second: nothing starts in a drained region, nobody is taken up in a pause.

In: each start and each take-up as it is sent. Out: violations. A worker that cannot reach the store, or stood still,
need not know; one that knows obeys whatever befell it. A permit that was given before may still be used for a moment.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from allocator.broker.levers import DRAINED, PAUSED
from tests.simulation.waits import SPARE

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet
    from tests.simulation.levers import LeversInForce

SEEN_SECONDS = 1.0
OBEYED_SECONDS = 0.3
"""What is on its way as a lever is seen goes on."""


class Obeyed:
    """Promises about what one process does under levers."""

    def __init__(self, fleet: Fleet, levers: LeversInForce) -> None:
        self._fleet = fleet
        self._levers = levers

    def starts(self, request_id: str, location: str) -> None:
        """A start is sent."""
        asked = self._fleet.matchmaker.asked.get(request_id)
        regions = json.loads(asked.body)["regions"] if asked is not None and location == SPARE else [location]
        ignored = [self._ignored(DRAINED + region) for region in regions]
        if all(ignored):
            self._violated(f"nothing is started in a drained region: {request_id} at {location}, {ignored[0]}")

    def takes(self, entry_id: str) -> None:
        """An entry is to be reserved for the first time."""
        if ignored := self._ignored(PAUSED):
            self._violated(f"a paused fleet takes nothing up: {entry_id}, {ignored}")

    def _ignored(self, name: str) -> str:
        """Which lever should have been obeyed by now; empty where none."""
        log, levers = self._fleet.lever_log, self._levers
        log.look()
        now, since = asyncio.get_running_loop().time(), log.since.get(name)
        if since is None:
            return ""
        seen_at = levers.seen_at.get(name)
        if seen_at is not None and seen_at >= since:
            seen_for_seconds = levers.seen_for_seconds(name)
            return f"seen for {seen_for_seconds:.3f} s" if seen_for_seconds > OBEYED_SECONDS else ""
        if now - since > SEEN_SECONDS and not levers.troubled_since(since):
            return f"set for {now - since:.3f} s and not seen"
        return ""

    def _violated(self, promise: str) -> None:
        self._fleet.world.trace.violated(promise)
