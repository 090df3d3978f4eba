"""Cancel and release: whatever the stage, when it is done no server is left for the id.

In: orders of matchmakers. Out: requests that are ended `cancelled`, sessions that are condemned. An order is settled
once all it asks for is durable, so a worker that dies in the middle leaves it to the next. A request under way is
seized: its holder's fence is stale from there on, and whatever its call still creates is condemned already.

Where Redis has lost something within the day before, what it says of an id that has not ended proves nothing: the
record may be gone, or be an older one. Then the providers are asked before the id is kept as cancelled, and what may
live under one of its session ids is condemned. An order that names no request is buried, for a person to look at.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from allocator.broker.aftermath import Order, Over
from allocator.broker.broker import DOUBT_MS, Condemned, Hold
from allocator.contract.allocation import Allocation, State
from allocator.contract.codes import Code
from allocator.contract.events import allocation_event
from allocator.contract.identity import session_id
from allocator.contract.keys import Keys
from allocator.contract.request import InvalidRequest, decode_request
from allocator.engine.allocation import Allocation as Way
from allocator.engine.asked import RELEASE, SOUGHT
from allocator.engine.ending import Bad
from allocator.engine.observer import Refused
from allocator.engine.parts import Parts
from allocator.engine.unreadable import stand_in
from allocator.providers.provider import LANDING_HORIZON_MS, Absent, Found, LookupFailed, SessionState

GENERATIONS_SOUGHT = 3
"""How many generations of session ids are looked up. Each but the first takes an answer that was lost and a session
that never came, so a fourth needs three such calls for one request; what lives beyond is listed by `allocator orphans`
and ended by its `ttl`."""
SEEK_SECONDS = 2.0
"""How long a provider is waited for; what it does not say by then is condemned: the stopper has more patience."""
ID_LENGTH_MAX = 128


async def carry_out(order: Order, parts: Parts) -> None:
    """Do what one order asks for. Raises BrokerUnavailable; then it stays pending."""
    if order.request_id is None:
        await _bury(order, parts)
        return
    standing, doubtful = await parts.aftermath.seize(order.request_id), False
    if not isinstance(standing, Over):
        # asked for now, for what was lost this very moment nobody has noticed yet
        lost_at_ms = await parts.broker.look_back()
        doubtful = order.at_ms < lost_at_ms + DOUBT_MS
        if doubtful:
            await _seek(order.request_id, standing.generation if standing else 1, lost_at_ms, parts)
            # anew, for the lease may have ended meanwhile
            standing = await parts.aftermath.seize(order.request_id)
    while not await _end(order, order.request_id, standing, parts, doubtful=doubtful):
        standing = await parts.aftermath.seize(order.request_id)
    await parts.aftermath.settle(order)


async def _end(order: Order, request_id: str, standing: Hold | Over | None, parts: Parts, *, doubtful: bool) -> bool:
    """Make durable that no server is to be left; False where the request stands otherwise by now."""
    match standing:
        case Hold():
            return await _cancel(replace(standing, uncertain=standing.uncertain or doubtful), parts)
        case Over(State.ALLOCATED, (provider, name), entry_id):
            condemned = Condemned(provider, name, f"{RELEASE}{request_id} {entry_id}")
            return await parts.aftermath.condemn(condemned, request_id, release=True)
        case Over():
            return True
        case None:
            return await _forestall(order, request_id, parts)


async def _cancel(hold: Hold, parts: Parts) -> bool:
    """End a request that we have just seized; False where someone seized it from us."""
    decoded = decode_request(hold.raw)
    request = stand_in(hold) if isinstance(decoded, InvalidRequest) else decoded.request
    way = Way(hold, request, parts, arrival=0, lease_until=0)
    return await way.end(Bad(State.CANCELLED, None, None))


async def _forestall(order: Order, request_id: str, parts: Parts) -> bool:
    now_ms = parts.broker.now_ms()
    allocation = Allocation(state=State.CANCELLED, final=True, request_id=request_id, updated_at=now_ms)
    event = allocation_event(allocation, deployment=parts.policy.deployment, entry_id=order.entry_id)
    return await parts.aftermath.forestall(order, allocation.to_hash(), event)


async def _seek(request_id: str, generation: int, lost_at_ms: int, parts: Parts) -> None:
    """Condemn what may live under the id from this generation on, whatever Redis knows of it.

    A call that was out when Redis lost its record may land later: within the landing horizon of the loss, absence
    proves nothing.
    """
    may_land = parts.broker.now_ms() < lost_at_ms + LANDING_HORIZON_MS
    generations = range(generation, generation + GENERATIONS_SOUGHT)
    ids = [session_id(parts.policy.deployment, request_id, each) for each in generations]
    sought = [Condemned(provider, each, SOUGHT) for provider in sorted(parts.providers) for each in ids]
    found = await asyncio.gather(*(_may_live(each, parts, may_land=may_land) for each in sought))
    for condemned, may_live in zip(sought, found, strict=True):
        if may_live:
            # refused where it is in play by now: then it is released
            await parts.aftermath.condemn(condemned, request_id, release=False)


async def _may_live(condemned: Condemned, parts: Parts, *, may_land: bool) -> bool:
    """Whether a session is ours to stop and not known to be gone."""
    found = await parts.look_ups.find(
        condemned.provider, condemned.session_id, permit_seconds=SEEK_SECONDS, timeout_seconds=SEEK_SECONDS
    )
    match found:
        case Found(session):
            # another namespace of this deployment may have a request of the same id
            is_ours = session.namespace in {None, parts.policy.namespace}
            return is_ours and session.state is not SessionState.ENDED
        case Absent():
            return may_land
        case LookupFailed():
            return True


async def _bury(order: Order, parts: Parts) -> None:
    """Keep an order that nobody can carry out; its sender has no other answer."""
    example = f"XADD {Keys(parts.policy.namespace).cancellations} * id m-1"
    message = f"{_fault(order)}; nothing was cancelled, name the request: {example}"
    if await parts.aftermath.bury(order, Code.INVALID_REQUEST, message):
        parts.observe(Refused(Code.INVALID_REQUEST, message, None, buried=True))


def _fault(order: Order) -> str:
    given = dict(order.fields).get(b"id")
    if given is None:
        return "the entry has no field 'id'"
    if not given:
        return "the field 'id' is empty"
    if len(given) > ID_LENGTH_MAX:
        return f"the field 'id' holds {len(given)} bytes, and an id has at most {ID_LENGTH_MAX}"
    return "the field 'id' holds what no id does: it is made of A-Z a-z 0-9 . _ : -"
