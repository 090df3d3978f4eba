"""What a request that is to wait outside takes along, and what `allocator explain` is told of its plan.

In: a course and its route. Out: a `Stay`, and steps of the trail. A trail is written only where there is something to
tell: a request that goes to the regions it named, in that order, has none.
"""

from __future__ import annotations

from typing import Any

from allocator.broker.broker import BrokerFull
from allocator.broker.parking import Stay
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.engine.course import Course
from allocator.engine.parts import Parts
from allocator.engine.routes import Route

DRAINED_SECONDS = 5.0
"""So long, and up to as long again, until it is looked whether a region is still drained."""


def stay_of(course: Course, parts: Parts, route: Route, code: Code | None) -> Stay:
    """Where it waits: for every destination that may serve it, until its deadline or a looser cap.

    For those that are drained as well, since nobody knows when they are resumed; but for those that only a looser cap
    lets in, or that another region that is not drained leads to, it waits by the clock: called by them before, it would
    take the place of one who may go there.
    """
    lots = [lane.lot for lane in route.lanes]
    drained = _drained(course, parts) if route.plan.waiting_for else ()
    closed = [parts.lanes.of(each) for each in route.plan.waiting_for if each in drained]
    lots += [lane.lot for lane in closed if not lane.open_by]
    wake_ms = course.hold.deadline_ms
    if any(lane.open_by for lane in closed):
        wake_ms = min(wake_ms, parts.broker.now_ms() + round(DRAINED_SECONDS * (1 + parts.chance.random()) * 1000))
    if route.plan.again_at_seconds is not None:
        wake_ms = min(wake_ms, course.hold.enqueued_at_ms + round(route.plan.again_at_seconds * 1000) + 1)
    lots = list(dict.fromkeys(lots))
    spent = {"gate_ms": round(course.gate_seconds * 1000), "provider_ms": round(course.provider_seconds * 1000)}
    course.tell(parts, "parked", **{"for": lots, "until": wake_ms}, **spent)
    return Stay(
        hold=course.hold,
        lots=tuple(lots),
        wake_ms=wake_ms,
        attempts=tuple(course.attempts),
        code=code,
        message=course.message,
        trail=course.trail_text,
    )


async def park(parts: Parts, stay: Stay) -> bool | None:
    """Whether it waits outside now; None where the broker has no memory left, which is nothing to insist on."""
    try:
        return await parts.parking.park(stay)
    except BrokerFull:
        return None


def _drained(course: Course, parts: Parts) -> set[Destination]:
    names = course.request.regions or parts.policy.default_regions
    drained = [region for name in names if (region := parts.atlas(name)) is not None and region.drained]
    return {place.destination for region in drained for place in region.places}


def tell_plan(course: Course, parts: Parts, route: Route) -> None:
    """Keep the order and the reasons, where they are not simply what was named."""
    if route.as_named and not course.trail:
        return
    order = [f"{each.region} {each.destination}" for each in route.plan.candidates]
    left_out: list[dict[str, Any]] = [
        {
            "region": each.region,
            "destination": None if each.destination is None else str(each.destination),
            "reason": each.reason,
        }
        for each in route.plan.left_out
    ]
    last = course.told("planned")
    if (last.get("order"), last.get("left_out")) != (order, left_out):
        course.tell(parts, "planned", order=order, left_out=left_out)
