"""A request whose body this version cannot read, as after a step back to an older one.

In: a hold. Out: until its deadline nothing, since a worker of the other version may serve it; then its end. It can be
cancelled at any time. What both need of a request, but its id, is in the hold.
"""

from __future__ import annotations

from allocator.broker.broker import Hold
from allocator.contract.allocation import State
from allocator.contract.codes import Code
from allocator.contract.request import AllocationRequest
from allocator.engine.allocation import Allocation
from allocator.engine.ending import Bad
from allocator.engine.observer import Crashed
from allocator.engine.parts import Parts


def stand_in(hold: Hold) -> AllocationRequest:
    """What the end of such a request is told by."""
    return AllocationRequest(id=hold.request_id, image="unreadable")


async def end_if_late(hold: Hold, fault: str, parts: Parts) -> None:
    """End it as failed once its deadline has come, and keep its bytes; whoever has the hold later does so anew."""
    parts.observe(Crashed(f"request {hold.request_id}", ValueError(fault)))
    if parts.broker.now_ms() >= hold.deadline_ms:
        message = f"this version cannot read what another has taken up: {fault}"
        way = Allocation(hold, stand_in(hold), parts, arrival=0, lease_until=0)
        await way.end(Bad(State.FAILED, Code.INVALID_REQUEST, message, bury=True))
