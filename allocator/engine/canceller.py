"""Cancel and release: whatever the stage, when it is done no server is left for the id.

In: orders of matchmakers. Out: requests that are ended `cancelled`, sessions that are condemned. An order is settled
once all it asks for is durable, so a worker that dies in the middle leaves it to the next. A request under way is
seized: its holder's fence is stale from there on, and whatever its call still creates is condemned already.
"""

from __future__ import annotations

from collections.abc import Mapping

from allocator.broker.aftermath import Order, Over
from allocator.broker.broker import Condemned, Hold
from allocator.contract.allocation import Allocation, State
from allocator.contract.events import allocation_event
from allocator.contract.request import InvalidRequest, decode_request
from allocator.engine.allocation import Allocation as Way
from allocator.engine.parts import Parts

RELEASE = "release "
"""What the reason of a condemned session begins with when it was in play; its request and that one's entry follow."""


class UnreadableRecord(Exception):  # noqa: N818 - a state of the world, not an error of ours
    """A record holds a body that this version cannot read."""


async def carry_out(order: Order, parts: Parts) -> None:
    """Do what one order asks for. Raises BrokerUnavailable; then it stays pending."""
    done = order.request_id is None
    while not done and order.request_id is not None:
        standing = await parts.aftermath.seize(order.request_id)
        match standing:
            case Hold():
                done = await _cancel(standing, parts)
            case Over(State.ALLOCATED, (provider, session_id), entry_id):
                condemned = Condemned(provider, session_id, f"{RELEASE}{order.request_id} {entry_id}")
                done = await parts.aftermath.condemn(condemned, order.request_id, release=True)
            case Over():
                done = True
            case None:
                done = await _forestall(order, order.request_id, parts)
    await parts.aftermath.settle(order)


async def _cancel(hold: Hold, parts: Parts) -> bool:
    """End a request that we have just seized; False where someone seized it from us."""
    decoded = decode_request(hold.raw)
    if isinstance(decoded, InvalidRequest):
        raise UnreadableRecord(f"the record of {hold.request_id}: {decoded.message}")
    way = Way(hold, decoded.request, parts, arrival=0, lease_until=0)
    return await way.cancel()


async def _forestall(order: Order, request_id: str, parts: Parts) -> bool:
    now_ms = parts.broker.now_ms()
    allocation = Allocation(state=State.CANCELLED, final=True, request_id=request_id, updated_at=now_ms)
    event = allocation_event(allocation, deployment=parts.policy.deployment, entry_id=order.entry_id)
    return await parts.aftermath.forestall(order, allocation.to_hash(), event)


async def released(condemned: Condemned, parts: Parts) -> None:
    """The session of an allocated request has been stopped as asked: say so."""
    request_id, _, entry_id = condemned.reason.removeprefix(RELEASE).partition(" ")
    allocation = _as_released(request_id, await parts.aftermath.allocation(request_id), parts.broker.now_ms())
    event = allocation_event(allocation, deployment=parts.policy.deployment, entry_id=entry_id)
    await parts.aftermath.release(request_id, (condemned.provider, condemned.session_id), event)


def _as_released(request_id: str, fields: Mapping[str, str], now_ms: int) -> Allocation:
    """The answer as it is from now on; a bare one where the hash cannot be read, or is not there any more."""
    said = {"final": "1", "request_id": request_id, "state": State.RELEASED.value, "updated_at": str(now_ms)}
    try:
        return Allocation.from_hash({**fields, **said})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Allocation.from_hash(said)
