"""Which part of a request's way a worker has: by it every event can be told from those of the workers before.

In: a hold, the trail that it came with, what the request says of its trace. Out: a `Leg`. Pure.

A leg begins with a take-up, a take-over or a call from outside, and is known by what Redis keeps of these: how often
the request was taken and when it was parked last. A clean hand-back changes neither: what follows it is the same leg,
gone on with elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allocator.broker.broker import Hold
from allocator.engine.observer import Leg


def leg_of(
    hold: Hold, traceparent: str | None, trail: Sequence[Mapping[str, Any]] = (), *, parked: bool = False
) -> Leg:
    """The leg that begins with this hold; `parked` where it comes from outside."""
    if not trail and hold.takes == 1:  # the way of nearly all
        return Leg(hold.request_id, hold.entry_id, hold.priority, traceparent)
    stays = [0, *(each["at"] for each in trail if each["step"] == "parked")]
    before: tuple[int, int] | None = None
    if parked:
        before = (hold.takes, stays[-2])
    elif hold.takes > 1:
        before = (hold.takes - 1, stays[-1])
    return Leg(hold.request_id, hold.entry_id, hold.priority, traceparent, (hold.takes, stays[-1]), before)
