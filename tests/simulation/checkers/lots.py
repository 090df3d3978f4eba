"""Who waits outside is called in to be served, not to be sent out again.

A worker whose clock is seconds behind sends who is woken out again until it agrees: worlds of such are not judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

PARKS_FIRST = 8
PARKS_A_SECOND = 3.0
"""Each worker may call somebody in vain before it rests, lanes shut between a call and its answer, levers move."""


class Lots:
    """Promises about how often one request is parked."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._parks: dict[str, tuple[int, float]] = {}
        """By request: how often, and since when."""

    def parked(self, request_id: str) -> None:
        """A request was parked."""
        now = self._fleet.world.loop.time()
        if self._fleet.scenario.chaos.skew:
            return
        before, since = self._parks.get(request_id, (0, now))
        self._parks[request_id] = before + 1, since
        if before + 1 > PARKS_FIRST + PARKS_A_SECOND * (now - since):
            promise = (
                f"nobody is called in to be sent out again: {request_id}, {before + 1} times in {now - since:.3f} s"
            )
            self._fleet.world.trace.violated(promise)
