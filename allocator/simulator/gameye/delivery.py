"""From a call to what its caller sees of it: the faults and the latency between the two.

In: a `Call`, which can be carried out, and the fate that the dice cast for it. Out: an HTTP response, or none. It
promises that a fault which strikes before anything is done leaves nothing done, and that one which strikes the
answer alone leaves everything done.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from aiohttp import web

from allocator.simulator.gameye import shapes
from allocator.simulator.gameye.clock import Clock
from allocator.simulator.gameye.dice import Fate
from allocator.simulator.gameye.faults import (
    Dropped,
    How,
    HtmlBody,
    Late,
    LostReply,
    MalformedBody,
    Operation,
    Redirect,
    StatusFault,
)
from allocator.simulator.gameye.fleet import Fleet, Refused
from allocator.simulator.gameye.settings import RetryAfter
from allocator.simulator.gameye.start_body import Violation

_encode = json.JSONEncoder(separators=(",", ":")).encode
_JSON = {"Content-Type": "application/json"}
_HTML = b"<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
_GIVEN_UP_POLL_SECONDS = 0.05
_LINGER_NONE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent: JSON, or bytes as they are."""

    status: int
    data: dict[str, Any] | None = None
    raw: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)

    def to_response(self) -> web.Response:
        """The answer as HTTP."""
        raw = self.raw if self.data is None else _encode(self.data).encode()
        return web.Response(status=self.status, body=raw, headers=self.headers)


def _nothing_to_note(status: int | None) -> None:
    """Take no note of an answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the vendor's API, read and authorised: where it belongs, and how it is carried out.

    `act_late` carries a start out some seconds from now; `answered` hears the status (None: the answer was lost) just
    before it goes out.
    """

    operation: Operation
    act: Callable[[], Reply]
    location: str | None = None
    act_late: Callable[[float], object] | None = None
    answered: Callable[[int | None], None] = _nothing_to_note


class Delivery:
    """Answers calls, as well or as badly as the settings say."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._identifiers = itertools.count(1)

    async def deliver(self, request: web.Request, call: Call, fleet: Fleet) -> web.StreamResponse:
        """Carry the call out and answer it, unless its fate is another."""
        fate = fleet.dice.cast(call.operation, call.location)
        outcome = self._outcome(request, call, fate, fleet)
        seconds = fate.slow_ms / 1000
        if call.operation is Operation.START and (region := fleet.region(call.location)) is not None:
            seconds += region.latency_seconds()
        if seconds:
            await self._clock.sleep(seconds)
        if isinstance(outcome, How):
            call.answered(None)
            return await _lose(request, outcome)
        call.answered(outcome.status)
        return _coloured(outcome, fate).to_response()

    def refusal(
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
        return Reply(refused.status, body, headers={**_JSON, "Retry-After": self._retry_after(retry_after)})

    def _outcome(self, request: web.Request, call: Call, fate: Fate, fleet: Fleet) -> Reply | How:
        outcome: Reply | How
        match fate.decisive:
            case None:
                outcome = call.act()
            case StatusFault(status=status):
                outcome = self._fault(request, call, fleet, status)
            case HtmlBody(status=status):
                outcome = Reply(status, raw=_HTML, headers={"Content-Type": "text/html"})
            case Redirect(to=to):
                outcome = Reply(307, headers={"Location": to})
            case Dropped(how=how):
                outcome = how
            case LostReply(how=how):
                call.act()
                outcome = how
            case MalformedBody():
                outcome = _halved(call.act())
            case Late(after_seconds=after_seconds, how=how, status=status):
                if call.act_late is not None:
                    call.act_late(after_seconds)
                outcome = self._fault(request, call, fleet, status) if how == "answer" else how
        return outcome

    def _fault(self, request: web.Request, call: Call, fleet: Fleet, status: int) -> Reply:
        return self.refusal(request, fleet, Refused(status, "A fault of the simulation"), location=call.location)

    def _retry_after(self, retry_after: RetryAfter) -> str:
        if retry_after.form == "date":
            return formatdate(self._clock.wall() + retry_after.seconds, usegmt=True)
        return str(math.ceil(retry_after.seconds))


def _halved(reply: Reply) -> Reply:
    raw = reply.raw if reply.data is None else _encode(reply.data).encode()
    return replace(reply, data=None, raw=raw[: len(raw) // 2])


def _coloured(reply: Reply, fate: Fate) -> Reply:
    if reply.data is None:
        return reply
    data = reply.data
    if fate.duplicated_ports and data.get("ports"):
        data = {**data, "ports": [*data["ports"], data["ports"][0]]}
    if fate.new_fields:
        data = {**data, "provisioner": {"generation": 3}, "reachability": None}
        if "ports" in data:
            data["ports"] = [{**port, "family": "ipv4"} for port in data["ports"]]
    return reply if data is reply.data else replace(reply, data=data)


async def _lose(request: web.Request, how: How) -> web.StreamResponse:
    """End the connection without an answer: at once, or when the caller has given up."""
    transport = request.transport
    if how is How.HANG:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(_GIVEN_UP_POLL_SECONDS)
    elif transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # Without lingering the close is a reset, which is what a crashed proxy looks like, not an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        transport.abort()
    return web.Response()
