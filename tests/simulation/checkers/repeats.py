"""Calls made again after an unknown outcome stay in the account's budget, over all who use it.

In: each start as it is sent, each answer as it is heard. Out: violations. What another worker makes of a request that
was taken over is no repeat of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.gate.gate import REPEATS_A_SECOND, REPEATS_MAX, REPEATS_SHARE

if TYPE_CHECKING:
    from tests.simulation.world import World


class Repeats:
    """Promises about the repeats of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unknown: dict[tuple[str, str], str] = {}
        """By process and request: whose it was by its fence when an answer was not heard."""
        self._repeated = 0
        self._first: set[str] = set()

    def unknown(self, process: str, request_id: str, fence: str) -> None:
        """A start came to an unknown outcome."""
        self._unknown[process, request_id] = fence

    def starts(self, process: str, request_id: str, fence: str) -> None:
        """A start is sent."""
        self._first.add(request_id)
        if self._unknown.pop((process, request_id), None) != fence:
            return
        self._repeated += 1
        budget = REPEATS_MAX + REPEATS_A_SECOND * self._world.loop.time() + REPEATS_SHARE * len(self._first)
        if self._repeated > budget:
            self._world.trace.violated(f"repeats stay in the budget: {self._repeated} of {budget:.1f}")
