"""One request from reserve to commit: the heart.

In: a hold on a request and its decoded body. Out: one last state, recorded. What it promises, whatever the provider or
Redis answers or fails to answer:

- A call is made only under a generation that the broker has persisted. While the answer of a call is unknown, no other
  is made: the session id is looked up, and only when the provider says that no such session lives does the next
  generation begin, which condemns this one.
- A definite refusal costs nothing but a step to the next destination, under the same id.
- Nothing is recorded but through the fence; a request that was taken over meanwhile is let go without a trace.

Waiting for permits is the lanes' part, the order of destinations the placement's, one call `attempt`'s, an unknown
answer `resolve`'s, what an end looks like `ending`'s.
"""

from __future__ import annotations

import asyncio

from allocator.broker.broker import Already, BrokerUnavailable, Condemned, Done, Hold, IsCondemned, Stale
from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.request import AllocationRequest
from allocator.engine.attempt import Call
from allocator.engine.course import SHORTEST_CALL_SECONDS, Course
from allocator.engine.ending import Bad, End, Placed, adopt, ending
from allocator.engine.lane import Lane
from allocator.engine.observer import FellBack, Finished, LeaseLost
from allocator.engine.parts import Parts
from allocator.engine.resolve import DeadlineCame, LetGo, next_generation, resolve
from allocator.engine.ticket import Permit, Ticket
from allocator.gate.gate import Cause
from allocator.placement.plan import Candidate, Plan, deadline_code, plan
from allocator.providers.provider import Session

ROUND_PAUSE_FIRST_SECONDS = 0.2
ROUND_PAUSE_LAST_SECONDS = 5.0
NOTE_SECONDS = 0.3
"""Who waits so long after a push-back says so in its hash."""
POISON_TAKES_MAX = 6
"""The first take, and one for each worker that processing the request may end: the contract allows five."""
RETRY_AFTER_MS = 2000
"""What a client is told where nobody knows better."""

_OUTCOMES = {
    Cause.FULL: Outcome.NO_CAPACITY,
    Cause.UNAVAILABLE: Outcome.UNAVAILABLE,
    Cause.CREDENTIAL: Outcome.UNAVAILABLE,
}


class HandBack(Exception):  # noqa: N818 - what a drain asks for
    """This process leaves: the request goes on elsewhere."""


class Allocation:
    """One request, while this process holds it."""

    def __init__(
        self, hold: Hold, request: AllocationRequest, parts: Parts, *, arrival: int, lease_until: float
    ) -> None:
        """`arrival` orders those of one priority and deadline; the lease is good until then on the loop's clock."""
        self.hold = hold
        self.waiting = False
        """Whether it may be broken off without harm: it waits for a permit or rests between rounds."""
        self.committing = False
        """Whether its end is on its way: a lease that is lost from here on was most likely let go by ourselves."""
        self.draining = False
        self._parts = parts
        self._arrival = arrival
        self._noting: asyncio.Task[None] | None = None
        self._course = Course.begin(hold, request, parts, lease_until=lease_until)

    @property
    def clean(self) -> bool:
        """Whether no call is left unanswered: another worker may go on without a look-up."""
        return not self._course.suspects

    def renewed(self, lease_until: float) -> None:
        """The lease is ours for longer."""
        self._course.lease_until = lease_until

    async def run(self) -> bool:
        """Bring the request to its end and record it; False where it is to be handed back instead."""
        try:
            end = await self._place()
            while not await self._commit(end):
                await next_generation(self._course, self._parts, "condemned meanwhile")
                end = await self._place()
        except HandBack:
            return False
        except LetGo:
            self._parts.observe(LeaseLost(self.hold.request_id))
        return True

    async def cancel(self) -> bool:
        """End a request that was seized to be cancelled; False where it was seized from us in turn."""
        self._course.suspects.update(self._parts.providers)
        try:
            return await self._commit(Bad(State.CANCELLED, None, None))
        except LetGo:
            return False

    async def _place(self) -> End:
        course, parts = self._course, self._parts
        patient = self.hold.doubtful
        try:
            if course.suspects:
                found = await resolve(course, parts, "taken over from another worker", patient=patient)
                if found is not None:
                    return self._adopt(*found, self._plan())
            if self.hold.takes > POISON_TAKES_MAX:
                ended = self.hold.takes - 1
                message = f"processing it has ended {ended} workers; see `allocator dead-letters`"
                return Bad(State.FAILED, Code.POISONED, message, bury=True)
            while True:
                route = self._plan()
                if not route.candidates:
                    return self._nowhere(route)
                if self.draining:
                    raise HandBack
                self.waiting = True
                await self._pause(route)
                lanes = [parts.lanes.of(each.destination) for each in route.candidates]
                permit = await self._permit(route, lanes)
                self.waiting = False
                if permit is None:
                    return await self._last_look(route) if patient else self._expired(route)
                candidate = route.candidates[lanes.index(permit.lane)]
                self._tell_fallback(candidate)
                end = await Call(course, candidate, permit, route, parts).make()
                if end is not None:
                    return end
        except DeadlineCame:
            return await self._last_look(self._plan()) if patient else self._expired(self._plan())

    async def _last_look(self, route: Plan) -> End:
        """Before a request ends from whose time Redis has lost something: what is alive under its id may be in play."""
        self._course.suspects.update(self._parts.providers)
        found = await resolve(self._course, self._parts, "before its end, after a loss of Redis", patient=True)
        return self._expired(route) if found is None else self._adopt(*found, route)

    def _adopt(self, provider: str, session: Session, route: Plan) -> End:
        """Take what a call that nobody here made has left; it counts as an attempt that took no time."""
        end = adopt(provider, session, self._course, route.candidates)
        if isinstance(end, Placed):
            at_ms = self._parts.broker.now_ms()
            self._course.record(end.candidate, Outcome.ADOPTED, status=None, at_ms=at_ms, seconds=0, waited_seconds=0)
        return end

    def _plan(self) -> Plan:
        course, parts = self._course, self._parts
        regions = course.request.regions or parts.policy.default_regions
        return plan(regions, parts.atlas, passed_over=frozenset(course.passed_over), failures=course.failures)

    async def _pause(self, route: Plan) -> None:
        """After every destination has failed this request once more, wait a little longer than the time before."""
        rounds = min(self._course.failures.get(each.destination, 0) for each in route.candidates)
        if rounds:
            pause = min(ROUND_PAUSE_FIRST_SECONDS * 2 ** (rounds - 1), ROUND_PAUSE_LAST_SECONDS)
            pause *= 0.5 + self._parts.chance.random()
            pause = min(pause, max(0.0, self._course.remaining_seconds(self._parts)))
            await asyncio.sleep(pause)
            self._course.gate_seconds += pause

    async def _permit(self, route: Plan, lanes: list[Lane]) -> Permit | None:
        """Wait for the first destination that may be called while there is time for the call."""
        course, parts = self._course, self._parts
        seconds = course.remaining_seconds(parts) - SHORTEST_CALL_SECONDS
        if seconds <= 0:
            return None
        rank = (self.hold.deadline_ms, self._arrival)
        loop = asyncio.get_running_loop()
        since = loop.time()
        noting = loop.call_later(NOTE_SECONDS, self._begin_note, route) if course.attempts else None
        try:
            return await Ticket(self.hold.priority, rank, lanes, parts.policy.max_gate_wait_seconds).wait(seconds)
        finally:
            course.gate_seconds += loop.time() - since
            if noting is not None:
                noting.cancel()

    def _begin_note(self, route: Plan) -> None:
        self._noting = asyncio.get_running_loop().create_task(self._note(route))

    async def _note(self, route: Plan) -> None:
        """Say to who reads the hash why the request waits; not worth waiting for a broker that is away."""
        course, parts = self._course, self._parts
        try:
            code = self._code(route)
            await parts.broker.note(self.hold, tuple(course.attempts), code, course.message)
        except BrokerUnavailable as trouble:
            parts.insist.away("note", trouble)

    def _code(self, route: Plan) -> Code:
        lanes = [self._parts.lanes.of(each.destination) for each in route.candidates]
        shut = [_OUTCOMES[lane.cause] for lane in lanes if lane.cause is not None]
        unauthorized = bool(self._course.unauthorized) or any(lane.cause is Cause.CREDENTIAL for lane in lanes)
        return deadline_code(self._course.attempts, shut, unauthorized=unauthorized)

    def _expired(self, route: Plan) -> Bad:
        code = self._code(route)
        lanes = [self._parts.lanes.of(each.destination) for each in route.candidates]
        retry_after_ms = None
        if code in (Code.NO_CAPACITY, Code.UNAVAILABLE):
            soonest = min((lane.opens_in_seconds for lane in lanes), default=0.0)
            retry_after_ms = max(RETRY_AFTER_MS, round(soonest * 1000))
        said = self._course.unauthorized or self._course.message
        message = "the deadline came before a session could be started" + (f"; last answer: {said}" if said else "")
        return Bad(State.EXPIRED, code, message, retry_after_ms)

    def _nowhere(self, route: Plan) -> Bad:
        passed_over = self._course.passed_over
        if passed_over:
            said = "; ".join(f"{destination}: {message}" for destination, message in sorted(passed_over.items()))
            return Bad(State.FAILED, Code.NOT_FOUND, said)
        if not route.left_out:
            return Bad(State.FAILED, Code.NO_REGION, "the request names no regions and default_regions is empty")
        said = ", ".join(f"{each.region} ({each.reason})" for each in route.left_out)
        return Bad(State.FAILED, Code.NO_REGION, f"no region of the request can serve it: {said}")

    def _tell_fallback(self, candidate: Candidate) -> None:
        course = self._course
        first = (course.request.regions or self._parts.policy.default_regions)[0]
        before = course.region or first
        if candidate.region != before:
            last = str(course.attempts[-1].outcome) if course.region and course.attempts else "shut_or_busy"
            self._parts.observe(FellBack(before, candidate.region, last))
        course.region = candidate.region

    async def _leave_nothing(self, end: End) -> None:
        """A session under an id of a warm pool's own is found by nobody else: condemn it, unless it is in play."""
        if isinstance(end, Placed) and end.session.id != self._course.session_id(self._parts):
            provider = end.candidate.destination.provider
            condemned = Condemned(provider, end.session.id, "superseded")
            aftermath, request_id = self._parts.aftermath, self.hold.request_id
            await self._parts.insist("condemn", lambda: aftermath.condemn(condemned, request_id, release=False))

    async def _commit(self, end: End) -> bool:
        """Record the end; False where the session it hands over has been condemned."""
        course, parts = self._course, self._parts
        # What was found under our id and runs another image is an earlier request's, and may be in play.
        condemn: tuple[Condemned, ...] = ()
        if isinstance(end, Bad) and end.code is not Code.ID_CONFLICT:
            condemn = course.condemned(parts, f"ended {end.state.value}")
        now_ms = parts.broker.now_ms()
        last = ending(end, course, parts.policy, now_ms=now_ms, condemn=condemn)
        self.committing = True
        since = asyncio.get_running_loop().time()
        match await parts.insist("commit", lambda: parts.broker.commit(last)):
            case Stale():
                await self._leave_nothing(end)
                raise LetGo
            case IsCondemned():
                self.committing = False
                return False
            case Done() | Already():
                pass
        commit_seconds = asyncio.get_running_loop().time() - since
        regions = course.request.regions or parts.policy.default_regions
        parts.observe(
            Finished(
                request_id=course.request.id,
                state=State(last.fields["state"]),
                code=None if isinstance(end, Placed) else end.code,
                total_seconds=(now_ms - self.hold.enqueued_at_ms) / 1000 + commit_seconds,
                provider_seconds=course.provider_seconds,
                gate_seconds=course.gate_seconds,
                commit_seconds=commit_seconds,
                first_choice=end.candidate.region == regions[0] if isinstance(end, Placed) else None,
            )
        )
        return True
