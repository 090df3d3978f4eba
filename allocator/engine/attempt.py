"""One call to start a session, and what its answer means for the request, the lane and the fleet.

In: a permit. Out: where the request is placed, how it ended, or None: go on. Every status has one meaning here and
nowhere else; a call whose answer is unknown is resolved before this returns.
"""

from __future__ import annotations

import asyncio

from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.engine.course import Course
from allocator.engine.ending import Bad, End, Placed, adopt
from allocator.engine.observer import Attempted, Crashed, GateOpened, GateShut
from allocator.engine.parts import Parts
from allocator.engine.resolve import DeadlineCame, LetGo, resolve
from allocator.engine.ticket import Permit
from allocator.gate.gate import CREDENTIAL_PROBE_SECONDS, Cause, GateUnavailable
from allocator.placement.plan import Candidate, Plan
from allocator.providers.provider import (
    Conflict,
    Created,
    CredentialRefused,
    NoRoom,
    NotFound,
    Rejected,
    StartOutcome,
    Unknown,
    Unreachable,
)

SHUT_GUESS_SECONDS = 2.0
"""How long a lane counts as shut until the gate has said how long."""


class Call:
    """One call under one permit."""

    def __init__(self, course: Course, candidate: Candidate, permit: Permit, route: Plan, parts: Parts) -> None:
        self._course = course
        self._plan = route
        self._candidate = candidate
        self._permit = permit
        self._parts = parts
        self._at_ms = parts.broker.now_ms()
        self._seconds = 0.0

    async def make(self) -> End | None:
        """Make it, and say what follows. Raises LetGo or DeadlineCame."""
        course, provider = self._course, self._candidate.destination.provider
        try:
            await self._assure_lease()
        except BaseException:
            self._permit.lane.finish(served=False)
            raise
        course.suspects.add(provider)
        outcome = await self._start()
        if not isinstance(outcome, Created | Conflict | Unknown):
            course.suspects.discard(provider)
        match outcome:
            case Created(session, status):
                self._permit.lane.own_ids |= session.id != course.session_id(self._parts)
                await self._got_through()
                self._record(Outcome.CREATED, status)
                return Placed(self._candidate, session)
            case NoRoom(status, retry_after, message):
                self._record(Outcome.THROTTLED if status == 429 else Outcome.NO_CAPACITY, status, message)
                await self._shut(Cause.FULL, retry_after, message)
            case Rejected(status, message):
                await self._got_through()
                self._record(Outcome.REJECTED, status, message)
                return Bad(State.FAILED, Code.REJECTED, message)
            case NotFound(status, message):
                await self._got_through()
                self._record(Outcome.REJECTED, status, message)
                course.passed_over[self._candidate.destination] = message
            case CredentialRefused(status, message):
                self._record(Outcome.UNAVAILABLE, status, message)
                await self._shut(Cause.CREDENTIAL, CREDENTIAL_PROBE_SECONDS, message)
            case Unreachable(message):
                self._failed()
                self._record(Outcome.UNAVAILABLE, None, message)
                await self._shut(Cause.UNAVAILABLE, None, message)
            case Conflict(status, message):
                await self._got_through()
                return await self._look_up(status, message or "the id is in use")
            case Unknown(status, message, closes, retry_after):
                self._failed()
                if closes or self._permit.probe:
                    await self._shut(Cause.UNAVAILABLE, retry_after, message)
                return await self._look_up(status, message)
        return None

    async def _assure_lease(self) -> None:
        """Never call for a request that may be another's by now: a process that slept asks first."""
        course, parts = self._course, self._parts
        now = asyncio.get_running_loop().time()
        if now >= course.lease_until:
            (ours,) = await parts.insist("renew", lambda: parts.broker.renew([course.hold]))
            if not ours:
                raise LetGo
            course.lease_until = now + parts.policy.lease_seconds
        if course.remaining_seconds(parts) <= 0:
            raise DeadlineCame

    async def _start(self) -> StartOutcome:
        course, parts, destination = self._course, self._parts, self._candidate.destination
        timeout = min(parts.policy.call_timeout_seconds[destination.provider], course.remaining_seconds(parts))
        since = asyncio.get_running_loop().time()
        outcome: StartOutcome = Unknown(None, "the call did not come back")
        try:
            outcome = await parts.providers[destination.provider].start(
                course.session_id(parts), destination.location, course.spec, timeout_seconds=timeout
            )
        except Exception as error:  # noqa: BLE001 - a provider's own fault leaves the answer unknown, no more
            parts.observe(Crashed(f"provider {destination}", error))
            outcome = Unknown(None, type(error).__name__)
        finally:
            self._permit.lane.finish(served=isinstance(outcome, Created | Conflict | Rejected | NotFound))
        self._seconds = asyncio.get_running_loop().time() - since
        course.provider_seconds += self._seconds
        course.unauthorized = outcome.message if isinstance(outcome, CredentialRefused) else ""
        return outcome

    async def _look_up(self, status: int | None, message: str) -> End | None:
        try:
            counts = not self._permit.lane.own_ids
            found = await resolve(
                self._course, self._parts, f"start answered {status or 'nothing'}", absence_counts=counts
            )
        except DeadlineCame:
            self._record(Outcome.UNKNOWN, status, message)
            raise
        if found is None:
            self._record(Outcome.UNKNOWN, status, message)
            return None
        self._record(Outcome.ADOPTED, status, message)
        return adopt(*found, self._course, [self._candidate, *self._plan.candidates])

    def _record(self, outcome: Outcome, status: int | None, message: str = "") -> None:
        course, candidate, waited = self._course, self._candidate, self._permit.waited_seconds
        if message:
            course.message = f"{candidate.destination}: {message}"
        course.record(
            candidate, outcome, status=status, at_ms=self._at_ms, seconds=self._seconds, waited_seconds=waited
        )
        self._parts.observe(
            Attempted(
                request_id=course.request.id,
                region=candidate.region,
                destination=candidate.destination,
                outcome=outcome,
                status=status,
                waited_seconds=waited,
                provider_seconds=self._seconds,
                message=message,
            )
        )

    def _failed(self) -> None:
        destination = self._candidate.destination
        self._course.failures[destination] = self._course.failures.get(destination, 0) + 1

    async def _shut(self, cause: Cause, retry_after_seconds: float | None, message: str) -> None:
        """Shut the lane at once, and the limit for the whole fleet; of many calls that come back, one tells it."""
        lane, parts = self._permit.lane, self._parts
        retry_after_seconds = retry_after_seconds or None  # "at once" is no rest
        if lane.cause is not None and not self._permit.probe and retry_after_seconds is None:
            return
        limit = lane.limits[-1] if cause is Cause.CREDENTIAL else lane.limits[0]
        lane.close(cause, retry_after_seconds or SHUT_GUESS_SECONDS)
        try:
            seconds = await parts.gate.shut(limit, cause, retry_after_seconds)
        except GateUnavailable:
            return
        lane.close(cause, seconds)
        parts.observe(GateShut(Destination(limit.provider, limit.scope), cause, seconds, message))

    async def _got_through(self) -> None:
        """A probe that was answered opens its limits for the fleet."""
        if not self._permit.probe:
            return
        try:
            await self._parts.gate.open(self._permit.lane.limits)
        except GateUnavailable:
            return
        finally:
            self._permit.lane.reopen()
        self._parts.observe(GateOpened(self._candidate.destination))
