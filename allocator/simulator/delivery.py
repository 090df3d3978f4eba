"""From a call to what its caller sees of it: the faults and the latency between the two.

In: a `Call`, which can be carried out, and the fate that the dice cast for it. Out: an HTTP response, or none. It
promises that a fault which strikes before anything is done leaves nothing done, and that one which strikes the
answer alone leaves everything done. How a vendor words an error, and what colours its answers, the call brings along.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

from aiohttp import web

from allocator.simulator.clock import Clock
from allocator.simulator.dice import Fate
from allocator.simulator.faults import (
    AnswersHtml,
    AnswersStatus,
    Drops,
    HalvesBody,
    How,
    LandsLate,
    LosesReply,
    Redirects,
)
from allocator.simulator.tables import RetryAfter

_encode = json.JSONEncoder(separators=(",", ":")).encode
JSON_HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}
_HTML = b"<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
_GIVEN_UP_POLL_SECONDS = 0.05
_LINGER_NONE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent: JSON, or bytes as they are."""

    status: int
    data: dict[str, Any] | None = None
    raw: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)

    def to_response(self) -> web.Response:
        """The answer as HTTP."""
        return web.Response(status=self.status, body=self.body(), headers=self.headers)

    def body(self) -> bytes:
        """The bytes of it."""
        return self.raw if self.data is None else _encode(self.data).encode()


def _nothing_to_note(status: int | None) -> None:
    """Take no note of an answer."""


def _as_it_is(reply: Reply) -> Reply:
    return reply


def at_once() -> float:
    """No latency."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a vendor's API, read and authorised: how it is carried out, and how its vendor refuses it.

    `refuse` words an error status; `act_late` carries the call out some seconds from now; `coloured` adds to a good
    answer; `latency_seconds` is asked once the call is carried out; `answered` hears the status (None: the answer was
    lost) just before it goes out.
    """

    act: Callable[[], Reply]
    refuse: Callable[[int], Reply]
    act_late: Callable[[float], object] | None = None
    coloured: Callable[[Reply], Reply] = _as_it_is
    latency_seconds: Callable[[], float] = at_once
    answered: Callable[[int | None], None] = _nothing_to_note


async def deliver(request: web.Request, call: Call, fate: Fate, clock: Clock) -> web.StreamResponse:
    """Carry the call out and answer it, unless its fate is another."""
    outcome = _outcome(call, fate)
    seconds = fate.slow_ms / 1000 + call.latency_seconds()
    if seconds:
        await clock.sleep(seconds)
    if isinstance(outcome, How):
        call.answered(None)
        return await _lose(request, outcome)
    call.answered(outcome.status)
    return call.coloured(outcome).to_response()


def retry_after_header(retry_after: RetryAfter, clock: Clock) -> str:
    """Retry-After in the form that is asked for."""
    if retry_after.form == "date":
        return formatdate(clock.wall() + retry_after.seconds, usegmt=True)
    return str(math.ceil(retry_after.seconds))


def _outcome(call: Call, fate: Fate) -> Reply | How:
    outcome: Reply | How
    match fate.decisive:
        case AnswersStatus(status=status):
            outcome = call.refuse(status)
        case AnswersHtml(status=status):
            outcome = Reply(status, raw=_HTML, headers={"Content-Type": "text/html"})
        case Redirects(to=to):
            outcome = Reply(307, headers={"Location": to})
        case Drops(how=how):
            outcome = how
        case LosesReply(how=how):
            call.act()
            outcome = how
        case HalvesBody():
            outcome = _halved(call.act())
        case LandsLate(after_seconds=after_seconds, how=how, status=status):
            if call.act_late is not None:
                call.act_late(after_seconds)
            outcome = call.refuse(status) if how == "answer" else how
        case _:
            outcome = call.act()
    return outcome


def _halved(reply: Reply) -> Reply:
    raw = reply.body()
    return replace(reply, data=None, raw=raw[: len(raw) // 2])


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
