"""One call to start a session, and what its answer means for the request, the lane and the fleet.

In: a permit. Out: where the request is placed, how it ended, or None: go on. Every status has one meaning here and
nowhere else; a call whose answer is unknown is resolved before this returns.
"""

from __future__ import annotations

import asyncio

from allocator.broker.broker import DOUBT_MS, Condemned
from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.engine.course import Course
from allocator.engine.ending import Bad, End, Placed, adopt
from allocator.engine.observer import Attempted, Crashed, GateOpened, GateShut, Slowed
from allocator.engine.parts import Parts
from allocator.engine.resolve import DeadlineCame, LetGo, next_generation, resolve
from allocator.engine.ticket import Permit
from allocator.gate.gate import CREDENTIAL_PROBE_SECONDS, Cause, GateUnavailable, Verdict
from allocator.placement.plan import Candidate, Plan
from allocator.providers.provider import (
    Broken,
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

STALE_SECONDS = 0.3
BROKEN = "it never served"
"""Why something was condemned that was created and came to nothing."""
THROTTLED_STATUS = 429
"""What a push-back is taken to mean by its status, where nobody can tell more."""
SLOWEST_RATE = 1.0
"""A destination that pushes back at this rate as well is full, whatever its list says: that is no promise."""
_LEAVES_A_SESSION = (Created, Broken, Conflict, Unknown)
"""Or may: until it is known which, its provider is under suspicion."""
_SERVED = (Created, Conflict, Rejected, NotFound)
"""The destination has shown that it serves."""
_VERDICTS: dict[Verdict | None, Outcome] = {Verdict.THROTTLED: Outcome.THROTTLED, Verdict.FULL: Outcome.NO_CAPACITY}
JUDGED_SECONDS = 0.5
"""How long a request that has nowhere else to go waits to hear what its push-back meant."""
ALL_BUT = 0.9
"""What part of its time a call has to have taken to be one that was given up for lack of it."""
SHUT_GUESS_SECONDS = 2.0
"""How long a lane counts as shut until the gate has said how long."""


class Doubted(Exception):  # noqa: N818 - a state of the world, not an error of ours
    """Redis has lost something since the request came in: first to be found out is what serves it already."""


class Call:
    """One call under one permit."""

    __slots__ = (
        "_at_ms",
        "_called_at",
        "_candidate",
        "_course",
        "_left_seconds",
        "_now",
        "_parts",
        "_permit",
        "_plan",
        "_seconds",
        "_was_cut",
    )

    def __init__(self, course: Course, candidate: Candidate, permit: Permit, route: Plan, parts: Parts) -> None:
        self._course = course
        self._plan = route
        self._candidate = candidate
        self._permit = permit
        self._parts = parts
        self._now = parts.loop.time
        self._at_ms = parts.broker.now_ms()
        self._called_at = self._seconds = self._left_seconds = 0.0
        self._was_cut = False
        """Whether it was given up so early, for its request's deadline, that its silence says nothing."""

    async def make(self) -> End | None:
        """Make it, and say what follows. Raises LetGo, DeadlineCame or Doubted."""
        course, provider = self._course, self._candidate.destination.provider
        is_fresh = False
        try:
            is_fresh = self._now() < course.lease_until or await self._renew_lease()
            self._left_seconds = course.remaining_seconds(self._parts)
            is_fresh = is_fresh and self._left_seconds > 0
        finally:
            if not is_fresh:
                self._permit.lane.finish(served=False)
        if self._left_seconds <= 0:
            raise DeadlineCame
        if not is_fresh:
            return None
        course.suspects.add(provider)
        outcome = await self._start()
        if not isinstance(outcome, _LEAVES_A_SESSION):
            course.suspects.discard(provider)
        if (self._permit.probe or self._permit.doubted) and isinstance(outcome, _SERVED):
            await self._got_through()
        return await self._follow(outcome)

    async def _follow(self, outcome: StartOutcome) -> End | None:
        course = self._course
        match outcome:
            case Created(session, status):
                self._record(Outcome.CREATED, status)
                return Placed(self._candidate, session)
            case NoRoom():
                await self._pushed_back(outcome)
            case Rejected(status, message):
                self._record(Outcome.REJECTED, status, message)
                return Bad(State.FAILED, Code.REJECTED, message)
            case NotFound(status, message):
                self._record(Outcome.REJECTED, status, message)
                course.passed_over[self._candidate.destination] = message
            case CredentialRefused(status, message):
                self._record(Outcome.UNAVAILABLE, status, message)
                await self._shut(Cause.CREDENTIAL, CREDENTIAL_PROBE_SECONDS, message)
            case Unreachable(message):
                self._failed()
                self._record(Outcome.UNAVAILABLE, None, message)
                await self._shut(Cause.UNAVAILABLE, None, message)
            case Broken():
                await self._leave_behind(outcome)
            case Conflict(status, message):
                await self._look_back(status, message)
                return await self._look_up(status, message or "the id is in use")
            case Unknown(status, message, closes, retry_after):
                self._failed()
                if not await self._doubt(message) and (closes or self._permit.probe):
                    await self._shut(Cause.UNAVAILABLE, retry_after, message)
                return await self._look_up(status, message)
        return None

    async def _renew_lease(self) -> bool:
        """Never call for a request that may be another's by now: a process that slept asks first.

        False where that took so long that the permit is stale: rates, regions, all may have changed.
        """
        course, parts = self._course, self._parts
        now = self._now()
        (ours,) = await parts.insist("renew", lambda: parts.broker.renew([course.hold]))
        if not ours:
            raise LetGo
        course.lease(now + parts.policy.lease_seconds)
        return self._now() - now < STALE_SECONDS

    async def _start(self) -> StartOutcome:
        course, parts, destination = self._course, self._parts, self._candidate.destination
        if not course.attempts or all(each.outcome is Outcome.UNSUITABLE for each in course.attempts):
            parts.budget.first(destination.provider)
        timeout = min(parts.policy.call_timeout_seconds[destination.provider], self._left_seconds)
        spec = course.spec_at(destination.provider, parts.policy)
        self._called_at, since = self._now(), parts.now()
        outcome: StartOutcome = Unknown(None, "the call did not come back")
        try:
            outcome = await parts.providers[destination.provider].start(
                course.session_id(parts), destination.location, spec, timeout_seconds=timeout
            )
        except Exception as error:  # noqa: BLE001 - a provider's own fault leaves the answer unknown, no more
            parts.observe(Crashed(f"provider {destination}", error))
            outcome = Unknown(None, type(error).__name__)
        finally:
            self._permit.lane.finish(served=isinstance(outcome, _SERVED))
        self._seconds = parts.now() - since
        self._learn(outcome, timeout)
        course.provider_seconds += self._seconds
        course.unauthorized = outcome.message if isinstance(outcome, CredentialRefused) else ""
        if isinstance(outcome, Created):
            self._permit.lane.own_ids |= outcome.session.id != course.session_id(parts)
        return outcome

    def _learn(self, outcome: StartOutcome, timeout: float) -> None:
        """Remember how long a start takes here; one that its own deadline cut short says of the host no more."""
        usual = self._permit.lane.usual
        if isinstance(outcome, Created):
            usual.took(self._seconds)
        elif (
            isinstance(outcome, Unknown | Broken)
            and self._seconds >= ALL_BUT * timeout
            and timeout == self._left_seconds
        ):
            self._was_cut = usual.was_cut(timeout)

    async def _look_back(self, status: int | None, message: str) -> None:
        """Where Redis lost something just now, what holds the id may be older than what serves. Raises Doubted."""
        course, parts = self._course, self._parts
        lost_at_ms = await parts.insist("look_back", parts.broker.look_back)
        if not course.hold.doubtful and course.hold.enqueued_at_ms < lost_at_ms + DOUBT_MS:
            self._record(Outcome.UNKNOWN, status, message)
            raise Doubted

    async def _look_up(self, status: int | None, message: str) -> End | None:
        try:
            lanes = (self._permit.lane, self._permit.lane.sibling)
            counts = not any(lane is not None and lane.own_ids for lane in lanes)
            found = await resolve(
                self._course, self._parts, f"start answered {status or 'nothing'}", absence_counts=counts
            )
        except DeadlineCame:
            self._record(Outcome.UNKNOWN, status, message)
            raise
        if found is None:
            self._record(Outcome.UNKNOWN, status, message)
            self._course.repeats = True
            return None
        self._record(Outcome.ADOPTED, status, message)
        return adopt(*found, self._course, self._parts.policy, [self._candidate, *self._plan.candidates])

    async def _leave_behind(self, broken: Broken) -> None:
        """Go on under the next generation; what was created is condemned, under our id and under its own."""
        course, parts, provider = self._course, self._parts, self._candidate.destination.provider
        self._failed()
        if broken.is_full:
            self._record(Outcome.NO_CAPACITY, broken.status, broken.message)
            if broken.closes:
                await self._shut(Cause.FULL, None, broken.message)
        else:
            self._record(Outcome.UNAVAILABLE, broken.status, broken.message)
            if not await self._doubt(broken.message) and self._permit.probe:
                await self._shut(Cause.UNAVAILABLE, None, broken.message)
        also = (Condemned(provider, broken.native_id, BROKEN),) if broken.native_id else ()
        await next_generation(course, parts, BROKEN, also)

    async def _pushed_back(self, outcome: NoRoom) -> None:
        """Nobody waits for this lane meanwhile, and this request for the answer only where it has no other to go to."""
        course, lane, parts = self._course, self._permit.lane, self._parts
        course.set_back(self._candidate.destination)
        provisional = Outcome.THROTTLED if outcome.status == THROTTLED_STATUS else Outcome.NO_CAPACITY
        attempt = self._add(provisional, outcome.status, outcome.message)
        if lane.cause is None:
            lane.close(Cause.FULL, outcome.retry_after_seconds or SHUT_GUESS_SECONDS, told=False)
        following = parts.judgement.begin(self._judged(outcome, provisional, attempt, lane.closings))
        lanes = [parts.lanes.of(each.destination, guest=each.guest) for each in self._plan.candidates]
        if all(each.cause is not None for each in lanes):
            # else it would be parked, and its answer never say what the push-back meant
            await asyncio.wait([following], timeout=min(JUDGED_SECONDS, max(0.0, course.remaining_seconds(parts))))

    async def _judged(self, outcome: NoRoom, provisional: Outcome, attempt: int, closings: int) -> None:
        """Shut the destination or slow it down, by what the push-back meant."""
        course, lane, parts = self._course, self._permit.lane, self._parts
        since = parts.now()
        verdict = await parts.judgement.of(lane, course.request.image)
        said = _VERDICTS.get(verdict, provisional)
        course.call_it(attempt, said)
        self._tell(said, outcome.status, outcome.message)
        slow = verdict is Verdict.THROTTLED and not outcome.retry_after_seconds
        if slow and lane.rate is not None and lane.rate > SLOWEST_RATE:
            before = lane.rate
            try:
                begun_seconds_ago = parts.now() - since + self._seconds
                lane.rate = await parts.gate.slow(lane.own, begun_seconds_ago)
                if self._permit.probe or self._permit.doubted:
                    await parts.gate.open(lane.limits)
            except GateUnavailable:
                return
            if lane.closings == closings and lane.cause is Cause.FULL:
                lane.reopen()
            if lane.rate < before:
                parts.observe(Slowed(self._candidate.destination, lane.rate))
        else:
            await self._shut(Cause.FULL, outcome.retry_after_seconds, outcome.message)

    async def _doubt(self, message: str) -> bool:
        """An unknown outcome more; whether the destination is set aside for it."""
        lane, parts = self._permit.lane, self._parts
        if self._was_cut and not self._permit.probe:
            return False
        try:
            seconds = await parts.gate.doubt(lane.own, probe=self._permit.probe)
        except GateUnavailable:
            return False
        if seconds <= 0:
            return False
        was_open = lane.cause is not Cause.SET_ASIDE
        lane.close(Cause.SET_ASIDE, seconds)
        if was_open or self._permit.probe:
            parts.observe(GateShut(self._candidate.destination, Cause.SET_ASIDE, seconds, message))
        return True

    def _record(self, outcome: Outcome, status: int | None, message: str = "") -> None:
        self._add(outcome, status, message)
        self._tell(outcome, status, message)

    def _add(self, outcome: Outcome, status: int | None, message: str) -> int:
        course, candidate, waited = self._course, self._candidate, self._permit.waited_seconds
        if message:
            course.message = f"{candidate.destination}: {message}"
        return course.record(
            candidate, outcome, status=status, at_ms=self._at_ms, seconds=self._seconds, waited_seconds=waited
        )

    def _tell(self, outcome: Outcome, status: int | None, message: str) -> None:
        leg, candidate, waited_seconds = self._course.leg, self._candidate, self._permit.waited_seconds
        told = (leg, candidate.region, candidate.destination, outcome, status)
        self._parts.observe(Attempted(*told, waited_seconds, self._seconds, self._called_at, message))

    def _failed(self) -> None:
        destination = self._candidate.destination
        self._course.failures[destination] = self._course.failures.get(destination, 0) + 1
        self._course.set_back(destination)

    async def _shut(self, cause: Cause, retry_after_seconds: float | None, message: str) -> None:
        """Shut the lane at once, and the limit for the whole fleet; of many calls that come back, one tells it."""
        lane, parts = self._permit.lane, self._parts
        retry_after_seconds = retry_after_seconds or None  # "at once" is no rest
        if lane.cause is not None and lane.told and not self._permit.probe and retry_after_seconds is None:
            return
        limit = lane.limits[-1] if cause is Cause.CREDENTIAL else lane.own
        lane.close(cause, retry_after_seconds or SHUT_GUESS_SECONDS)
        try:
            seconds = await parts.gate.shut(limit, cause, retry_after_seconds)
        except GateUnavailable:
            return
        lane.close(cause, seconds)
        parts.observe(GateShut(Destination(limit.provider, limit.scope), cause, seconds, message))

    async def _got_through(self) -> None:
        """A probe that was answered opens its limits for the fleet, and what was doubted is trusted again."""
        try:
            await self._parts.gate.open(self._permit.lane.limits)
        except GateUnavailable:
            return
        finally:
            if self._permit.probe:
                self._permit.lane.reopen()
        if self._permit.probe:
            self._parts.observe(GateOpened(self._candidate.destination))
