"""What an end looks like: from what the engine found to the hash, its event and how long it is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from allocator.broker.broker import Condemned, Ending
from allocator.contract.allocation import Allocation, State, as_hash, endpoint
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.events import allocation_event
from allocator.contract.values import quick
from allocator.engine.course import Course
from allocator.engine.observer import Finished
from allocator.engine.parts import Policy
from allocator.placement.plan import Candidate
from allocator.providers.ports import named
from allocator.providers.provider import Session

KEPT_AFTER_SESSION_SECONDS = 3600


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


def adopt(provider: str, session: Session, course: Course, policy: Policy, candidates: Sequence[Candidate]) -> End:
    """Take a session found under our id for the one that serves, wherever it runs; never one of another image.

    Its region is the one of the request that stands for where it runs, else the first candidate's.
    """
    if session.image not in {"", course.spec_at(provider, policy).image}:
        message = f"session {session.id}, started for this id before, runs the image {session.image!r}"
        return Bad(State.FAILED, Code.ID_CONFLICT, message)
    runs_at = Destination(provider, session.location)
    regions = [each.region for each in candidates if each.destination == runs_at]
    region = next(iter([*regions, *(each.region for each in candidates)]), session.location)
    ports = named(session.ports, course.spec.port_names)
    return Placed(Candidate(region, runs_at), replace(session, ports=ports))


def ending(end: End, course: Course, policy: Policy, *, now_ms: int, condemn: tuple[Condemned, ...]) -> Ending:
    """Put the end of a request into the words of the contract."""
    allocation = _placed(end, course, now_ms) if isinstance(end, Placed) else _bad(end, course, now_ms)
    keep_seconds = policy.result_ttl_seconds
    if isinstance(end, Placed):
        keep_seconds = _lifetime_seconds(end.session, course) + KEPT_AFTER_SESSION_SECONDS
    data = allocation.to_data()
    fields = as_hash(data)
    fields.pop("context", None)  # reserve has written it
    return Ending(
        hold=course.hold,
        fields=fields,
        event=allocation_event(allocation, deployment=policy.deployment, entry_id=course.hold.entry_id, data=data),
        keep_ms=keep_seconds * 1000,
        session=(end.candidate.destination.provider, end.session.id) if isinstance(end, Placed) else None,
        native_id=end.session.native_id if isinstance(end, Placed) else None,
        condemn=condemn,
        trail=course.trail_text,
        bury=end.code if isinstance(end, Bad) and end.bury else None,
    )


def told(
    end: End, course: Course, policy: Policy, total_seconds: float, *, commit_seconds: float, leg_seconds: float
) -> Finished:
    """The same for observers."""
    candidate = end.candidate if isinstance(end, Placed) else None
    return Finished(
        leg=course.leg,
        state=State.ALLOCATED if isinstance(end, Placed) else end.state,
        code=None if isinstance(end, Placed) else end.code,
        total_seconds=total_seconds,
        provider_seconds=course.provider_seconds,
        gate_seconds=course.gate_seconds,
        commit_seconds=commit_seconds,
        first_choice=candidate.region == (course.request.regions or policy.default_regions)[0] if candidate else None,
        leg_seconds=leg_seconds,
        attempts=len(course.attempts),
        region=candidate.region if candidate else None,
        destination=candidate.destination if candidate else None,
    )


def _placed(end: Placed, course: Course, now_ms: int) -> Allocation:
    session = end.session
    began_ms = session.created_at_ms or now_ms
    return Allocation(
        state=State.ALLOCATED,
        final=True,
        request_id=course.request.id,
        priority=course.hold.priority.value,
        context=course.request.context,
        enqueued_at=course.hold.enqueued_at_ms,
        updated_at=now_ms,
        allocated_at=now_ms,
        expires_at=began_ms + _lifetime_seconds(session, course) * 1000,
        host=session.host,
        ports=session.ports,
        endpoint=endpoint(session.host, session.ports),
        region=end.candidate.region,
        provider=end.candidate.destination.provider,
        location=end.candidate.destination.location,
        session_id=session.public_id,
        session_key=session.id if session.native_id else None,
        attempts=tuple(course.attempts),
    )


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
