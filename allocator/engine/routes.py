"""Where a request may go: its plan, and the lanes that lead there.

In: a course. Out: a `Route`. What is the same for every request to the same regions is worked out once: most name
regions alone, and the policies built in look at nothing else then. Whatever changes rates, regions or the policy makes
all of it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from allocator.contract.destination import Destination
from allocator.contract.request import AllocationRequest
from allocator.engine.lane import Lane
from allocator.engine.lanes import Lanes
from allocator.engine.observer import Crashed
from allocator.placement.plan import Atlas, Candidate, Plan, Wish, plan
from allocator.placement.policies import AsNamed, ByLatency

if TYPE_CHECKING:
    from allocator.broker.broker import Entry, Hold
    from allocator.engine.course import Course
    from allocator.engine.parts import Parts

REMEMBERED = 1024
"""Sets of regions; a matchmaker sends few different ones."""
_NOTHING: Mapping[Destination, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """A plan, and the lane of each of its candidates in the same order."""

    plan: Plan
    lanes: tuple[Lane, ...]
    as_named: bool
    """Whether these are the regions of the wish in their order, and none is left out."""

    def candidate(self, lane: Lane) -> Candidate:
        """The candidate that a lane leads to."""
        return self.plan.candidates[self.lanes.index(lane)]


class Routes:
    """The routes of one process."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._plain: dict[tuple[str, ...], Route] = {}
        self._as_of: tuple[object, int] | None = None

    def of(self, course: Course, parts: Parts) -> Route:
        """Where a request may go now."""
        if course.passed_over or course.setbacks:
            wish = _wish(course.request, course.hold.enqueued_at_ms, parts)
            return self._made(wish, parts, passed_over=course.passed_over, setbacks=course.setbacks)
        return self.at_first(course.request, course.hold, parts)

    def at_first(self, request: AllocationRequest, taken: Entry | Hold, parts: Parts) -> Route:
        """Where a request may go that nobody has tried to place yet."""
        if request.players or request.latency_caps:
            return self._made(_wish(request, taken.enqueued_at_ms, parts), parts)
        as_of = (parts.policy, self._lanes.changes)
        if as_of != self._as_of or len(self._plain) > REMEMBERED:
            self._plain.clear()
            self._as_of = as_of
        regions = request.regions or parts.policy.default_regions
        route = self._plain.get(regions)
        if route is None:
            wish = _wish(request, taken.enqueued_at_ms, parts)
            route = self._made(wish, parts)
            if isinstance(parts.policy.order, AsNamed | ByLatency) and not _weighted(wish, parts.atlas):
                self._plain[regions] = route
        return route

    def _made(
        self,
        wish: Wish,
        parts: Parts,
        *,
        passed_over: Mapping[Destination, str] = _NOTHING,
        setbacks: Mapping[Destination, int] = _NOTHING,
    ) -> Route:
        made = plan(wish, parts.atlas, parts.policy.order, passed_over=passed_over, setbacks=setbacks)
        if made.fault:
            parts.observe(Crashed("placement policy", ValueError(made.fault)))
        lanes = tuple(self._lanes.of(each.destination, guest=each.guest) for each in made.candidates)
        regions = dict.fromkeys(each.region for each in made.candidates)
        return Route(made, lanes, as_named=tuple(regions) == wish.regions and not made.left_out)


def _wish(request: AllocationRequest, enqueued_at_ms: int, parts: Parts) -> Wish:
    return Wish(
        request_id=request.id,
        regions=request.regions or parts.policy.default_regions,
        players=request.players,
        latency_caps=request.latency_caps,
        age_seconds=max(0, parts.broker.now_ms() - enqueued_at_ms) / 1000,
    )


def _weighted(wish: Wish, atlas: Atlas) -> bool:
    regions = (atlas(name) for name in wish.regions)
    return any(place.weight is not None for region in regions if region is not None for place in region.places)
