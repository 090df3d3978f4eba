"""What a request that is to wait outside takes along, and what `allocator explain` is told of its plan.

In: a course and its route. Out: a `Stay`, and steps of the trail. A trail is written only where there is something to
tell: a request that goes to the regions it named, in that order, has none.
"""

from __future__ import annotations

from typing import Any

from allocator.broker.parking import Stay
from allocator.contract.codes import Code
from allocator.engine.course import Course
from allocator.engine.parts import Parts
from allocator.engine.routes import Route
from allocator.placement.plan import Plan, Wish


def stay_of(course: Course, parts: Parts, route: Route, code: Code | None) -> Stay:
    """Where it waits: for every destination that may serve it, now or later; until its deadline or a looser cap."""
    lots = [lane.lot for lane in route.lanes]
    lots += [parts.lanes.of(each).lot for each in route.plan.waiting_for]
    wake_ms = course.hold.deadline_ms
    if route.plan.again_at_seconds is not None:
        wake_ms = min(wake_ms, course.hold.enqueued_at_ms + round(route.plan.again_at_seconds * 1000) + 1)
    lots = list(dict.fromkeys(lots))
    course.tell(parts, "parked", **{"for": lots, "until": wake_ms})
    return Stay(
        hold=course.hold,
        lots=tuple(lots),
        wake_ms=wake_ms,
        attempts=tuple(course.attempts),
        code=code,
        message=course.message,
        trail=course.trail_text,
    )


def tell_plan(course: Course, parts: Parts, wish: Wish, route: Plan) -> None:
    """Keep the order and the reasons, where they are not simply what was named."""
    named = tuple(dict.fromkeys([each.region for each in route.candidates])) == wish.regions
    if named and not route.left_out and not course.trail:
        return
    order = [f"{each.region} {each.destination}" for each in route.candidates]
    left_out: list[dict[str, Any]] = [
        {
            "region": each.region,
            "destination": None if each.destination is None else str(each.destination),
            "reason": each.reason,
        }
        for each in route.left_out
    ]
    course.tell(parts, "planned", order=order, left_out=left_out)
