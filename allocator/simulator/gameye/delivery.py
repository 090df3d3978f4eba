"""How Gameye refuses a call, and what may colour its answers; the way out is `allocator.simulator.delivery`.

In: refusals of the fleet, the fate that the dice cast. Out: replies in the vendor's shapes.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

from aiohttp import web

from allocator.simulator.bodies import Violation
from allocator.simulator.clock import Clock
from allocator.simulator.delivery import JSON_HEADERS, Reply, retry_after_header
from allocator.simulator.dice import Fate
from allocator.simulator.gameye import shapes
from allocator.simulator.gameye.faults import DuplicatedPorts, NewFields
from allocator.simulator.gameye.fleet import Fleet, Refused


class Refusals:
    """The vendor's error bodies, each with an identifier of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._identifiers = itertools.count(1)

    def reply(
        self,
        request: web.Request,
        fleet: Fleet,
        refused: Refused,
        *,
        location: str | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> Reply:
        """The vendor's error body for a call that is refused."""
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        body = shapes.error(
            refused.status,
            refused.message,
            details=refused.details,
            path=request.path,
            identifier=f"simulated-{next(self._identifiers):08d}",
            timestamp=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            violations=violations,
        )
        region = fleet.region(location)
        retry_after = (region and region.settings.retry_after) or fleet.settings.retry_after
        if refused.status not in {420, 429, 503} or retry_after is None:
            return Reply(refused.status, body)
        return Reply(
            refused.status, body, headers={**JSON_HEADERS, "Retry-After": retry_after_header(retry_after, self._clock)}
        )


def coloured(reply: Reply, fate: Fate) -> Reply:
    """The answer with what the fate adds to it."""
    if reply.data is None or not fate.others:
        return reply
    data = reply.data
    if fate.struck_by(DuplicatedPorts) is not None and data.get("ports"):
        data = {**data, "ports": [*data["ports"], data["ports"][0]]}
    if fate.struck_by(NewFields) is not None:
        data = {**data, "provisioner": {"generation": 3}, "reachability": None}
        if "ports" in data:
            data["ports"] = [{**port, "family": "ipv4"} for port in data["ports"]]
    return reply if data is reply.data else replace(reply, data=data)
