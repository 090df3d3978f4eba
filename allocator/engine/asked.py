"""What is stopped because someone asked: how the reasons begin that say so, and telling that a release is done.

In: a session that was stopped as asked. Out: its request is `released`, announced. Whether a reason lets a session be
stopped that would be left alone otherwise is for the stopper to say.
"""

from __future__ import annotations

from collections.abc import Mapping

from allocator.broker.broker import Condemned
from allocator.contract.allocation import Allocation, State
from allocator.contract.events import allocation_event
from allocator.engine.parts import Parts

RELEASE = "release "
"""What the reason of a condemned session begins with when it was in play; its request and that one's entry follow."""
CANCELLED = f"ended {State.CANCELLED.value}"
"""What it begins with when its request was cancelled: nobody knows whether there is such a session."""
SOUGHT = f"{CANCELLED}, sought after a loss of Redis"
"""The same, where no record says what became of the request: condemned since the loss, and by someone who asked."""


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
