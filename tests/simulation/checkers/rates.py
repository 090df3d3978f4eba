"""No more starts in any rolling second than the fleet's rate allows, an operator's rate and the guests' counted in."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING

from tests.simulation.waits import SPARE

if TYPE_CHECKING:
    from tests.simulation.world import World

JITTER = 0.05
"""What the wire may move a start by, as a share of the rate."""
SEEN_SECONDS = 2.5
"""A window, the second that a lever takes to be seen, and what is given ahead."""


class Rates:
    """Promises about how fast the host is called."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rates: list[float] = []
        """The rate that each start was to keep."""

    def settled(self) -> bool:
        return True

    def look(self) -> None:
        """Nothing to see before the end."""

    def after_host_step(self) -> None:
        """Note what each start was to keep, as it arrives."""
        starts = self._world.host.starts
        while len(self._rates) < len(starts):
            self._rates.append(self._rate(starts[len(self._rates)].location))

    def judge(self) -> None:
        starts = self._world.host.starts
        self._judge([(call.location, call.at_seconds, rate) for call, rate in zip(starts, self._rates, strict=True)])
        kept = self._world.scenario.waits.kept_share
        if kept:
            of_guests = [
                (f"{call.location} by guests", call.at_seconds, rate * (1 - kept))
                for call, rate in zip(starts, self._rates, strict=True)
                if self._is_guest(call.session_id, call.location)
            ]
            self._judge(of_guests)

    def _judge(self, starts: list[tuple[str, float, float]]) -> None:
        world, recent = self._world, dict[str, deque[tuple[float, float]]]()
        # a worker that is paused between permit and call sends a little late what others have not waited for
        late = 2 * sum(fleet.scenario.workers for fleet in world.fleets) if world.scenario.chaos.pause else 1
        for location, at_seconds, rate in starts:
            window = recent.setdefault(location, deque())
            window.append((at_seconds, rate))
            while window[0][0] <= at_seconds - 1.0:
                window.popleft()
            most_rate = max(each for _, each in window)
            if len(window) > math.ceil(most_rate * (1 + JITTER)) + late:
                world.trace.violated(
                    f"no rate is exceeded: {len(window)} starts at {location} in the second before "
                    f"{at_seconds:.3f}, the limit is {most_rate:g}"
                )
                return

    def _rate(self, location: str) -> float:
        """What a location gives now: of rates that changed of late, or unseen by some worker, the most."""
        world, whole = self._world, self._world.scenario.rate
        if not any(fleet.lever_log.rates for fleet in world.fleets):
            return whole
        now, alone = world.loop.time(), len(world.fleets) == 1
        log = world.fleets[0].lever_log
        log.look()
        knows = alone and not any(each.levers.troubled_since(now - 2 * SEEN_SECONDS) for each in world.running())
        ever = [each for fleet in world.fleets for each in fleet.lever_log.rates if each[0] == location]
        if not knows:
            return max([whole, *(rate for _, rate, _, _ in ever)])
        late = [each for each in ever if each[3] is None or each[3] > now - SEEN_SECONDS]
        throughout = any(since < now - SEEN_SECONDS and until is None for _, _, since, until in late)
        return max([*(rate for _, rate, _, _ in late), *([] if throughout else [whole])])

    def _is_guest(self, session_id: str, location: str) -> bool:
        """Whether its request had surely rather gone elsewhere."""
        for fleet in self._world.fleets:
            known = fleet.sessions.request_of(session_id)
            if known is not None and location != SPARE:
                body = json.loads(fleet.matchmaker.asked[known].body)
                return "players" not in body and body["regions"][0] != location
        return False
