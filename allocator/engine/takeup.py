"""From entries of the streams to requests that are ours, and the answers for those that make no request.

In: entries that were read. Out: holds with their decoded requests. Promises: one bad entry costs its neighbours
nothing; a request is reserved before it is anyone's concern; who sent what cannot be taken up is told so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from allocator.broker.broker import (
    Declined,
    Ended,
    Entry,
    Faulty,
    Hold,
    OtherBody,
    Refusal,
    Reservation,
    ReserveReply,
)
from allocator.contract.allocation import Allocation, State
from allocator.contract.codes import Code
from allocator.contract.events import allocation_event, refusal_event
from allocator.contract.request import AllocationRequest, Decoded, InvalidRequest, decode_request
from allocator.engine.observer import Crashed, Finished, Leg, Received, Refused
from allocator.engine.parts import Parts

REFUSED = "refused"
EXPECTED_MAX = 8
"""Of more that come at once the lanes hear as they join: then round trips are shared, and one less is no gain."""


Begin = Callable[[Hold, AllocationRequest], Leg | None]
"""Begins one, and says by which leg it is known from here on; None where it was begun before."""


async def take_up(entries: Sequence[Entry], parts: Parts, begin: Begin) -> None:
    """Reserve the good ones in one step and begin them, then answer the others; insists while the broker is away."""
    now_ms = parts.broker.now_ms()
    refusals: list[Refusal] = []
    asks: list[Reservation] = []
    good: list[Decoded] = []
    for entry in entries:
        decoded = read(entry)
        if isinstance(decoded, InvalidRequest):
            refusals.append(_invalid(entry, decoded, parts))
        else:
            good.append(decoded)
            asks.append(_ask(entry, decoded, parts, now_ms))
    if len(good) <= EXPECTED_MAX:
        for ask, decoded in zip(asks, good, strict=True):
            _expect(ask, decoded.request, parts)
    replies: Sequence[ReserveReply] = ()
    if asks:
        replies, now_ms = await parts.insist("reserve", lambda: parts.broker.reserve(asks)), parts.broker.now_ms()
    for ask, decoded, reply in zip(asks, good, replies, strict=True):
        if isinstance(reply, Hold):
            if (leg := begin(reply, decoded.request)) is not None:
                parts.observe(Received(leg, max(0, now_ms - reply.enqueued_at_ms) / 1000))
        elif (refusal := _answered(ask, reply, parts)) is not None:
            refusals.append(refusal)
    await asyncio.gather(*(_refuse(refusal, parts) for refusal in refusals))


def read(entry: Entry) -> Decoded | InvalidRequest:
    """Decode one entry."""
    if entry.raw is None:
        return InvalidRequest("the entry has no field 'request' that holds the JSON of one")
    return decode_request(entry.raw)


def _ask(entry: Entry, decoded: Decoded, parts: Parts, now_ms: int) -> Reservation:
    request = decoded.request
    timeout_seconds = request.timeout_seconds or parts.policy.request_timeout_seconds
    remaining_seconds = timeout_seconds - max(0, now_ms - entry.enqueued_at_ms) / 1000
    wait = wait_seconds(request, entry, parts)
    declines = wait > remaining_seconds > 0
    sent = (decoded.digest, round(timeout_seconds * 1000), decoded.context, request.reply_to)
    return Reservation(entry, request.id, *sent, wait, declines)


def _expect(ask: Reservation, request: AllocationRequest, parts: Parts) -> None:
    """Let the permit be asked for while the request is being reserved: one round trip less until it is called."""
    if not ask.wait_seconds:
        for lane in parts.routes.at_first(request, ask.entry, parts).lanes[:1]:
            lane.expect()


def wait_seconds(request: AllocationRequest, entry: Entry, parts: Parts) -> float:
    """How long a request would take at the least: its call, behind those who wait where it may go, here and outside.

    0 where nobody knows: where a looser cap will let it go elsewhere later, or no region is open to it now.
    """
    priority = entry.priority
    by_players = request.players or request.latency_caps  # then a plan of its own is made, for nothing where none waits
    if by_players and not any(lane.wait_seconds(priority) for lane in parts.lanes):
        return 0.0
    route = parts.routes.at_first(request, entry, parts)
    if route.plan.again_at_seconds is not None:
        return 0.0
    ahead = rates = 0.0
    for lane in route.lanes:
        seconds = lane.wait_seconds(priority)
        if not seconds or not lane.rate:
            return 0.0
        ahead, rates = max(ahead, seconds * lane.rate), rates + lane.rate
    return ahead / rates + min(lane.usual.needs_seconds for lane in route.lanes) if rates else 0.0


def _answered(ask: Reservation, reply: ReserveReply, parts: Parts) -> Refusal | None:
    """What to tell the sender of an entry that was not reserved; None where nothing is to be said."""
    match reply:
        case Ended():
            try:
                return _again(ask, reply, parts)
            except (ValueError, TypeError, KeyError) as error:
                parts.observe(Crashed(f"record of {ask.request_id}", error))
        case OtherBody():
            message = "the id names another request; ask for another server under a new id"
            return _refusal(ask, Code.ID_CONFLICT, message, parts=parts)
        case Declined():
            wait_ms = round(ask.wait_seconds * 1000)
            message = f"it would take {wait_ms} ms and pass its deadline; send it again later, or name another region"
            return _refusal(ask, Code.OVERLOADED, message, parts=parts, retry_after_ms=wait_ms)
        case Faulty(message):
            parts.observe(Crashed(f"record of {ask.request_id}", ValueError(message)))
        case _:
            pass
    return None


async def _refuse(refusal: Refusal, parts: Parts) -> None:
    """Tell one sender; a fault in it costs the others nothing, and the entry comes again as a stray."""
    try:
        failed = await parts.insist("refuse", lambda: parts.broker.refuse(refusal))
    except Exception as error:  # noqa: BLE001 - the requests reserved in the same step must not be lost with it
        parts.observe(Crashed(f"entry {refusal.entry.entry_id}", error))
    else:
        if refusal.state == REFUSED or refusal.bury:
            parts.observe(Refused(refusal.code, refusal.message, refusal.request_id, refusal.bury))
        if failed and refusal.request_id is not None:
            total_seconds = max(0, parts.broker.now_ms() - refusal.entry.enqueued_at_ms) / 1000
            leg = Leg(refusal.request_id, refusal.entry.entry_id, refusal.entry.priority)
            parts.observe(Finished.unserved(leg, refusal.code, total_seconds))


def _again(ask: Reservation, ended: Ended, parts: Parts) -> Refusal:
    """Announce an end once more, as it was."""
    allocation = Allocation.from_hash(ended.fields)
    event = allocation_event(allocation, deployment=parts.policy.deployment, entry_id=ended.entry_id)
    return Refusal(
        entry=ask.entry,
        code=Code.ID_CONFLICT,
        message="",
        request_id=ask.request_id,
        reply_to=ask.reply_to,
        state=str(allocation.state),
        event=event,
    )


def _refusal(ask: Reservation, code: Code, message: str, *, parts: Parts, **data: Any) -> Refusal:
    if ask.context is not None:
        data["context"] = json.loads(ask.context)
    event = refusal_event(
        deployment=parts.policy.deployment,
        entry_id=ask.entry.entry_id,
        priority=ask.entry.priority,
        request_id=ask.request_id,
        code=code,
        message=message,
        at_ms=parts.broker.now_ms(),
        **data,
    )
    return Refusal(ask.entry, code, message, ask.request_id, ask.reply_to, state=REFUSED, event=event)


def _invalid(entry: Entry, invalid: InvalidRequest, parts: Parts) -> Refusal:
    """Bury the bytes; an id that can be read and is new fails with them."""
    code = Code.INVALID_REQUEST
    if invalid.request_id is None:
        return Refusal(entry, code, invalid.message, bury=True)
    ask = Reservation(entry, invalid.request_id, "", 0, invalid.context, invalid.reply_to)
    refusal = _refusal(ask, code, invalid.message, parts=parts)
    failed = Allocation(
        state=State.FAILED,
        final=True,
        request_id=invalid.request_id,
        priority=entry.priority.value,
        context=None if invalid.context is None else json.loads(invalid.context),
        enqueued_at=entry.enqueued_at_ms,
        updated_at=parts.broker.now_ms(),
        error_code=code.value,
        error_message=invalid.message,
    )
    return replace(
        refusal,
        bury=True,
        failure=failed.to_hash(),
        failure_event=allocation_event(failed, deployment=parts.policy.deployment, entry_id=entry.entry_id),
    )
