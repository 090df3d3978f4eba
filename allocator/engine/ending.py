"""What an end looks like: from what the engine found to the hash, its event and how long it is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from allocator.broker.broker import Condemned, Ending
from allocator.contract.allocation import Allocation, State, as_hash, attempts_data, endpoint
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.events import end_event
from allocator.contract.values import quick
from allocator.engine.course import Course
from allocator.engine.observer import Finished
from allocator.engine.parts import Policy
from allocator.placement.plan import Candidate
from allocator.providers.ports import named
from allocator.providers.provider import Session

KEPT_AFTER_SESSION_SECONDS = 3600
_ALLOCATED = State.ALLOCATED.value


@quick
@dataclass(frozen=True, slots=True)
class Placed:
    """A session serves the request."""

    candidate: Candidate
    session: Session


@dataclass(frozen=True, slots=True)
class Bad:
    """No session will."""

    state: State
    code: Code | None
    message: str | None
    retry_after_ms: int | None = None
    bury: bool = False
    """Keep the bytes as a dead letter."""


End = Placed | Bad

CREATED_COUNTS_MS = 1000
"""A host may cut the moment of a creation to the second."""


def adopt(provider: str, session: Session, course: Course, policy: Policy, candidates: Sequence[Candidate]) -> End:
    """Take a session found under our id for the one that serves, wherever it runs; never one of another image.

    After a take-over, one that was created since the request came is its own: the catalog of who started it may have
    called the image otherwise. Its region is the one of the request that stands for where it runs, else the first
    candidate's.
    """
    created_ms = (session.created_at_ms or 0) + CREATED_COUNTS_MS
    is_own = course.hold.uncertain and created_ms >= course.hold.enqueued_at_ms
    if not is_own and session.image not in {"", course.spec_at(provider, policy).image}:
        message = f"session {session.id}, started for this id before, runs the image {session.image!r}"
        return Bad(State.FAILED, Code.ID_CONFLICT, message)
    runs_at = Destination(provider, session.location)
    regions = [each.region for each in candidates if each.destination == runs_at]
    region = next(iter([*regions, *(each.region for each in candidates)]), session.location)
    ports = named(session.ports, course.spec.port_names)
    return Placed(Candidate(region, runs_at), replace(session, ports=ports))


def ending(end: End, course: Course, policy: Policy, *, now_ms: int, condemn: tuple[Condemned, ...]) -> Ending:
    """Put the end of a request into the words of the contract."""
    if isinstance(end, Placed):
        session, data = end.session, _placed(end, course, now_ms)
        keep_seconds = _lifetime_seconds(session, course) + KEPT_AFTER_SESSION_SECONDS
        served, native_id, bury = (end.candidate.destination.provider, session.id), session.native_id, None
    else:
        data = _bad(end, course, now_ms).to_data()
        keep_seconds = policy.result_ttl_seconds
        served, native_id, bury = None, None, end.code if end.bury else None
    event = end_event(data, deployment=policy.deployment, entry_id=course.hold.entry_id)
    data.pop("context", None)  # reserve has written it
    trail = course.trail_text if course.trail else ""
    return Ending(course.hold, as_hash(data), event, keep_seconds * 1000, served, native_id, condemn, bury, trail)


def told(
    end: End, course: Course, policy: Policy, total_seconds: float, *, commit_seconds: float, leg_seconds: float
) -> Finished:
    """The same for observers."""
    state, code, first_choice, region, destination = State.ALLOCATED, None, None, None, None
    if isinstance(end, Placed):
        region, destination = end.candidate.region, end.candidate.destination
        if named := course.request.regions or policy.default_regions:  # emptied since, and nobody knows what was first
            first_choice = region == named[0]
    else:
        state, code = end.state, end.code
    spent = (total_seconds, course.provider_seconds, course.gate_seconds, commit_seconds)
    tried = len(course.attempts)
    return Finished(course.leg, state, code, *spent, first_choice, leg_seconds, tried, region, destination)


def _placed(end: Placed, course: Course, now_ms: int) -> dict[str, Any]:
    """What `Allocation.to_data` would say: the way of every match, and an `Allocation` of it serves nobody else."""
    session, destination, request = end.session, end.candidate.destination, course.request
    began_ms = session.created_at_ms or now_ms
    data: dict[str, Any] = {
        "state": _ALLOCATED,
        "request_id": request.id,
        "priority": course.hold.priority.value,
        "enqueued_at": course.hold.enqueued_at_ms,
        "updated_at": now_ms,
        "allocated_at": now_ms,
        "expires_at": began_ms + _lifetime_seconds(session, course) * 1000,
        "host": session.host,
        "region": end.candidate.region,
        "provider": destination.provider,
        "location": destination.location,
        "session_id": session.public_id,
        "final": True,
    }
    if course.attempts:
        data["attempts"] = attempts_data(course.attempts)
    if request.context is not None:
        data["context"] = request.context
    if session.ports:
        data["ports"] = [port.to_data() for port in session.ports]
        data["endpoint"] = endpoint(session.host, session.ports)
    if session.native_id:
        data["session_key"] = session.id
    return data


def _lifetime_seconds(session: Session, course: Course) -> int:
    return course.ttl_seconds if session.ttl_seconds is None else session.ttl_seconds


def _bad(end: Bad, course: Course, now_ms: int) -> Allocation:
    return Allocation(
        state=end.state,
        final=True,
        request_id=course.request.id,
        priority=course.hold.priority.value,
        context=course.request.context,
        enqueued_at=course.hold.enqueued_at_ms,
        updated_at=now_ms,
        attempts=tuple(course.attempts),
        error_code=end.code.value if end.code else None,
        error_message=end.message,
        retry_after_ms=end.retry_after_ms,
    )
