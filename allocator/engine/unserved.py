"""Why a request is not served, in the contract's codes and in words for a person. Pure but for the clock.

In: a course, its route, the lanes it waited in. Out: a `Bad` end, or the code that says why it waits.
"""

from __future__ import annotations

from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.engine.course import Course
from allocator.engine.ending import Bad
from allocator.engine.parts import Parts
from allocator.engine.routes import Route
from allocator.gate.gate import Cause
from allocator.placement.plan import Plan, deadline_code, why_nowhere

RETRY_AFTER_MS = 2000
"""What a client is told where nobody knows better."""

_OUTCOMES = {
    Cause.FULL: Outcome.NO_CAPACITY,
    Cause.UNAVAILABLE: Outcome.UNAVAILABLE,
    Cause.CREDENTIAL: Outcome.UNAVAILABLE,
    Cause.SET_ASIDE: Outcome.UNKNOWN,
}


def code_of(course: Course, route: Route) -> Code:
    """What keeps it from a session now, and what its end is called if nothing changes by the deadline."""
    causes = [lane.cause for lane in route.lanes]
    shut = [_OUTCOMES[cause] for cause in causes if cause is not None]
    unauthorized = bool(course.unauthorized) or Cause.CREDENTIAL in causes
    return deadline_code(course.attempts, shut, unauthorized=unauthorized)


def expired(course: Course, route: Route) -> Bad:
    """The deadline came first."""
    code = code_of(course, route)
    retry_after_ms = None
    if code in (Code.NO_CAPACITY, Code.UNAVAILABLE):
        soonest = min((lane.opens_in_seconds for lane in route.lanes), default=0.0)
        retry_after_ms = max(RETRY_AFTER_MS, round(soonest * 1000))
    said = course.unauthorized or course.message
    message = "the deadline came before a session could be started" + (f"; last answer: {said}" if said else "")
    return Bad(State.EXPIRED, code, message, retry_after_ms)


def pass_over_unsuited(course: Course, plan: Plan, parts: Parts) -> bool:
    """Leave out the candidates whose provider cannot do what the request asks for, each told once as an attempt.

    Whether there are any: then the plan is to be made anew.
    """
    found = False
    for each in plan.candidates:
        at = each.destination
        reason = parts.providers[at.provider].unsuited(at.location, course.spec_at(at.provider, parts.policy))
        if reason is None:
            continue
        found = True
        course.passed_over[at] = reason
        if at not in _unsuited(course):  # else told by the worker that had the request before
            now_ms = parts.broker.now_ms()
            course.record(each, Outcome.UNSUITABLE, status=None, at_ms=now_ms, seconds=0, waited_seconds=0)
    return found


def _unsuited(course: Course) -> set[Destination]:
    attempts = (each for each in course.attempts if each.outcome is Outcome.UNSUITABLE)
    return {Destination(each.provider, each.location) for each in attempts}


def nowhere(course: Course, plan: Plan) -> Bad | None:
    """No region can serve it; None while one can, or may later."""
    said = why_nowhere(plan)
    if said is None:
        return None
    if course.passed_over.keys() - _unsuited(course):
        reasons = "; ".join(f"{each}: {message}" for each, message in sorted(course.passed_over.items()))
        return Bad(State.FAILED, Code.NOT_FOUND, reasons)
    return Bad(State.FAILED, Code.NO_REGION, said)
