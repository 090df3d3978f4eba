"""What every call of the simulated Edgegap goes through, whatever it asks for.

In: requests, and what is to be done for them. Out: answers. It promises the order of checks: token (401), rate (429),
then whatever the call itself says; that every call that arrives is in the ledger, with its answer; and that faults
strike only calls that passed the first two.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from aiohttp import web

from allocator.simulator.clock import Clock
from allocator.simulator.delivery import JSON_HEADERS, Call, Reply, deliver, retry_after_header
from allocator.simulator.dice import Fate
from allocator.simulator.edgegap import ledger, shapes
from allocator.simulator.edgegap.faults import NewFields, Operation
from allocator.simulator.edgegap.fleet import Fleet
from allocator.simulator.edgegap.refused import Refused
from allocator.simulator.limits import StartLimit

Act = Callable[[Fleet, Fate], Reply | Refused | dict[str, Any]]
ActLate = Callable[[Fleet, Fate, float], object]


@dataclass(frozen=True, slots=True)
class _Paced:
    """So many calls in any second."""

    starts_per_second: float | None
    burst: int = 0
    window: Literal["sliding"] = "sliding"


class Front:
    """The vendor's front door on whichever fleet is the current one."""

    def __init__(self, fleet: Callable[[], Fleet], clock: Clock, seed: int) -> None:
        self.fleet = fleet
        self._clock = clock
        self._limits: dict[Operation, StartLimit] = defaultdict(StartLimit)
        self._random = random.Random(f"{seed}:latency")  # noqa: S311 - a simulation, repeatable by its seed

    def unrouted(self, _request: web.Request, status: int, reason: str) -> web.Response:
        """The vendor's error body for what HTTP itself refuses: no such path, no such method, too large a body."""
        return self._refuse(self.fleet(), Refused(status, reason)).to_response()

    async def answer(
        self,
        request: web.Request,
        operation: Operation,
        act: Act,
        *,
        place: str | None = None,
        act_late: ActLate | None = None,
        tags: tuple[str, ...] = (),
        request_id: str | None = None,
    ) -> web.StreamResponse:
        """Let a call through, or not, then deliver what `act` gives: a reply, a refusal, or the JSON of a 200.

        `place` is the location of the call, for faults that strike one only; `tags` and `request_id` are for the
        ledger. A reply to a deploy may bring the id of what it made.
        """
        fleet = self.fleet()
        now = self._clock.monotonic()
        noted = ledger.Call(operation, now, int(self._clock.wall() * 1000), tags=tags, request_id=request_id)
        fleet.ledger.add_call(noted)
        refused = _unauthorised(request, fleet) or self._too_fast(fleet, operation, now)
        if refused is not None:
            noted.status = refused.status
            return self._refuse(fleet, refused).to_response()
        fate = fleet.dice.cast(operation, place)
        low, high = fleet.settings.latency_ms

        def carried_out() -> Reply:
            match act(fleet, fate):
                case Refused() as refused:
                    return self._refuse(fleet, refused)
                case Reply() as reply:
                    if operation is Operation.DEPLOY and reply.data is not None:
                        noted.request_id = reply.data.get("request_id")
                    return reply
                case data:
                    return Reply(200, data)

        def answered(status: int | None) -> None:
            noted.status = status

        call = Call(
            carried_out,
            lambda status: self._refuse(fleet, Refused(status, "A fault of the simulation")),
            act_late=None if act_late is None else partial(act_late, fleet, fate),
            coloured=partial(_coloured, fate=fate),
            latency_seconds=lambda: self._random.uniform(low, high) / 1000,
            answered=answered,
        )
        return await deliver(request, call, fate, self._clock)

    def _too_fast(self, fleet: Fleet, operation: Operation, now: float) -> Refused | None:
        rate: float | None = getattr(fleet.settings.rates, operation, None)
        if rate is None or self._limits[operation].admits(now, _Paced(rate)):
            return None
        return Refused(fleet.settings.throttle_status, f"Rate limit exceeded: {rate:g} per 1 second")

    def _refuse(self, fleet: Fleet, refused: Refused) -> Reply:
        reply = Reply(refused.status, shapes.error(refused))
        retry_after = fleet.settings.retry_after
        if refused.status not in {420, 429, 503} or retry_after is None:
            return reply
        return replace(reply, headers={**JSON_HEADERS, "Retry-After": retry_after_header(retry_after, self._clock)})


def _coloured(reply: Reply, fate: Fate) -> Reply:
    if reply.data is None or fate.struck_by(NewFields) is None:
        return reply
    return replace(reply, data={**reply.data, "provisioner": {"generation": 3}, "reachability": None})


def _unauthorised(request: web.Request, fleet: Fleet) -> Refused | None:
    word, _, token = request.headers.get("Authorization", "").partition(" ")
    if word.lower() != "token" or not token or " " in token or fleet.settings.token not in {None, token}:
        return Refused(401, "Unauthorized: send the header Authorization: token <your token>")
    return None
