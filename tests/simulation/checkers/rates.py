"""No more starts in any rolling second than the fleet's rate allows."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World

JITTER = 0.05
"""What the wire may move a start by, as a share of the rate."""


class Rates:
    """Promises about how fast the host is called."""

    def __init__(self, world: World) -> None:
        self._world = world

    def settled(self) -> bool:
        return True

    def look(self) -> None:
        """Nothing to see before the end."""

    def judge(self) -> None:
        world, recent = self._world, dict[str, deque[float]]()
        # a worker that is paused between permit and call sends a little late what others have not waited for
        late = 2 * sum(fleet.scenario.workers for fleet in world.fleets) if world.scenario.chaos.pause else 1
        most = math.ceil(world.scenario.rate * (1 + JITTER)) + late
        for call in world.host.starts:
            window = recent.setdefault(call.location, deque())
            window.append(call.at_seconds)
            while window[0] <= call.at_seconds - 1.0:
                window.popleft()
            if len(window) > most:
                world.trace.violated(
                    f"no rate is exceeded: {len(window)} starts at {call.location} in the second before "
                    f"{call.at_seconds:.3f}, the limit is {world.scenario.rate:g}"
                )
                return
