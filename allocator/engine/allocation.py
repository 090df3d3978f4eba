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
from dataclasses import replace

from allocator.broker.broker import Already, BrokerUnavailable, Condemned, Done, Hold, IsCondemned, Stale
from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.request import AllocationRequest
from allocator.engine.attempt import Call, Doubted
from allocator.engine.course import SHORTEST_CALL_SECONDS, Course
from allocator.engine.ending import Bad, End, Placed, adopt, ending, told
from allocator.engine.observer import FellBack, LeaseLost, Leg, NotReady, Parked
from allocator.engine.parts import Parts
from allocator.engine.readiness import external_port, why_not_ready
from allocator.engine.resolve import DeadlineCame, LetGo, next_generation, resolve
from allocator.engine.routes import Route
from allocator.engine.stay import park, stay_of, tell_plan
from allocator.engine.survivors import Survivor, latest_first
from allocator.engine.suspects import POISON_TAKES_MAX
from allocator.engine.ticket import NoPermit, Permit, Ticket
from allocator.engine.unserved import code_of, expired, nowhere, pass_over_unsuited
from allocator.placement.plan import Candidate
from allocator.providers.provider import Session

ROUND_PAUSE_FIRST_SECONDS = 0.2
ROUND_PAUSE_LAST_SECONDS = 5.0
NOTE_SECONDS = 0.3
"""Who waits so long after a push-back says so in its hash."""
BUDGET_PAUSE_SECONDS = 0.5
"""How long who has to repeat a call waits for the retry budget."""


class HandBack(Exception):  # noqa: N818 - what a drain asks for
    """This process leaves: the request goes on elsewhere."""


class IsParked(Exception):  # noqa: N818 - as above
    """The request waits outside."""


class Allocation:
    """One request, while this process holds it."""

    def __init__(
        self,
        hold: Hold,
        request: AllocationRequest,
        parts: Parts,
        *,
        arrival: int,
        lease_until: float,
        called_to: str | None = None,
    ) -> None:
        """`arrival` orders those of one priority and deadline; the lease is good until then on the loop's clock.

        `called_to`: the lot it was parked at.
        """
        self.hold = hold
        self.waiting = False
        """Whether it may be broken off without harm: it waits for a permit or rests between rounds."""
        self.leaving = False
        """Whether its end or its parking is on its way: a lease that is lost from here on we have likely let go."""
        self.draining = False
        self.left: str | None = "lost"
        """Why it is no longer here, as `Left` has it, unless it has ended here."""
        self.began_at = parts.loop.time()
        self._parts = parts
        self._arrival = arrival
        self._called_to = called_to
        self._noting: asyncio.Task[None] | None = None
        self._may_park = True
        self._survivors: list[Survivor] | None = None
        """What Redis had forgotten and nobody has tried to take yet, the latest first; None before anybody looked."""
        self._found_ids: set[str] = set()
        self._course = Course.begin(hold, request, parts, lease_until=lease_until, called_to=called_to)

    @property
    def clean(self) -> bool:
        """Whether no call is left unanswered: another worker may go on without a look-up."""
        return not self._course.suspects

    @property
    def leg(self) -> Leg:
        """The part of its way that this is."""
        return self._course.leg

    def renewed(self, lease_until: float) -> None:
        """The lease is ours for longer."""
        self._course.lease(lease_until)

    async def run(self) -> bool:
        """Bring the request to its end and record it; False where it is to be handed back instead."""
        try:
            end = await self._place()
            while not await self._commit(end):
                await next_generation(self._course, self._parts, "condemned meanwhile")
                end = await self._place()
        except HandBack:
            self.left = "handed_back"
            return False
        except IsParked:
            self.left = "parked"
            self._parts.observe(Parked(self.hold.request_id))
        except LetGo:
            if self.left == "lost":
                self._parts.observe(LeaseLost(self.hold.request_id))
        return True

    async def end(self, bad: Bad) -> bool:
        """Record this end, without any call; False where somebody else has the request by now."""
        try:
            return await self._commit(bad)
        except LetGo:
            return False

    async def _place(self) -> End:
        course, parts = self._course, self._parts
        try:
            if self._is_suspect and (end := await self._found_already()) is not None:
                return end
            while True:
                route = self._route()
                if (hopeless := nowhere(course, route.plan)) is not None:
                    return hopeless
                if self.draining:
                    raise HandBack
                self.waiting = True
                if course.failures or course.repeats:
                    route = await self._pause(route)
                permit = await self._permit(route)
                self.waiting = False
                if permit is NoPermit.TIME_IS_UP:
                    return await self._at_deadline(route)
                if permit is NoPermit.PARK:
                    await self._park(route)
                if not isinstance(permit, Permit):
                    continue
                candidate = route.candidate(permit.lane)
                self._tell_fallback(candidate, route)
                try:
                    end = await Call(course, candidate, permit, route.plan, parts).make()
                except Doubted:
                    self.hold = course.hold = replace(self.hold, doubtful=True)
                    end = await self._found_already()
                if end is not None and (not parts.policy.ready_checks or await self._is_ready(end)):
                    return end
        except DeadlineCame:
            return await self._at_deadline(self._route())

    @property
    def _is_suspect(self) -> bool:
        """Whether there may be a session of its, or it has ended workers."""
        return self.hold.doubtful or bool(self._course.suspects) or self.hold.takes > POISON_TAKES_MAX

    async def _found_already(self) -> End | None:
        """Look what is there before anything is called: what another worker left, what Redis has forgotten, poison."""
        course, parts = self._course, self._parts
        found: End | None = None
        if self.hold.doubtful:
            found = await self._survivor()
        if found is None and course.suspects:
            session = await resolve(course, parts, "taken over from another worker", patient=self.hold.doubtful)
            found = None if session is None else self._adopt(*session, self._route())
        if found is not None and await self._is_ready(found):
            return found
        if self.hold.takes > POISON_TAKES_MAX:
            ended = self.hold.takes - 1
            message = f"processing it has ended {ended} workers; see `allocator dead-letters`"
            return Bad(State.FAILED, Code.POISONED, message, bury=True)
        return None

    async def _survivor(self) -> End | None:
        """What serves a request already that Redis has forgotten; others that live may have been handed over as well.

        So they are left alone: an orphan ends by its `ttl`, a match that was stopped does not come back.
        """
        if self._survivors is None:
            self._survivors = await self._look_for_survivors()
            self._found_ids = {session.id for _, session in self._survivors}
        return self._adopt(*self._survivors.pop(0), self._route()) if self._survivors else None

    async def _look_for_survivors(self) -> list[Survivor]:
        course, parts, policy = self._course, self._parts, self._parts.policy
        request_id, loss_ms = self.hold.request_id, await parts.insist("look_back", parts.broker.look_back)
        found = await parts.survivors.of(request_id, policy.deployment, policy.namespace, loss_ms)
        if not found or not course.suspects:
            return found
        if course.session_id(parts) not in {session.id for _, session in found}:
            # what was called under it may have landed since
            landed = await resolve(course, parts, "superseded", patient=True)
            found = found if landed is None else latest_first([landed, *found], policy.deployment, request_id)
        course.suspects.clear()
        return found

    async def _at_deadline(self, route: Route) -> End:
        """The deadline came; where Redis has lost something since, or this process slept, something may be in play."""
        course, parts = self._course, self._parts
        if not self.hold.doubtful and course.held_since(self.began_at):
            return expired(course, route)
        course.suspects.update(parts.providers)
        found = await resolve(course, parts, "before its end, after a loss of Redis", patient=True)
        return expired(course, route) if found is None else self._adopt(*found, route)

    def _adopt(self, provider: str, session: Session, route: Route) -> End:
        """Take what a call that nobody here made has left; it counts as an attempt that took no time."""
        end = adopt(provider, session, self._course, self._parts.policy, route.plan.candidates)
        if isinstance(end, Placed):
            at_ms = self._parts.broker.now_ms()
            self._course.record(end.candidate, Outcome.ADOPTED, status=None, at_ms=at_ms, seconds=0, waited_seconds=0)
        return end

    def _route(self) -> Route:
        course, parts = self._course, self._parts
        route = parts.routes.of(course, parts)
        if pass_over_unsuited(course, route.plan, parts):
            route = parts.routes.of(course, parts)
        tell_plan(course, parts, route)
        return route

    async def _pause(self, route: Route) -> Route:
        """After every destination has failed it once more, wait longer than before; the route as it is then."""
        course = self._course
        rounds = min((course.failures.get(each.destination, 0) for each in route.plan.candidates), default=0)
        if not rounds and not course.repeats:
            return route
        if rounds:
            await self._rest(min(ROUND_PAUSE_FIRST_SECONDS * 2 ** (rounds - 1), ROUND_PAUSE_LAST_SECONDS))
        if course.repeats and route.lanes:
            provider = route.lanes[0].destination.provider
            while course.remaining_seconds(self._parts) > 0 and not await self._parts.budget.allows(provider):
                await self._rest(BUDGET_PAUSE_SECONDS)
            course.repeats = False
        return self._route()

    async def _rest(self, seconds: float) -> None:
        seconds *= 0.5 + self._parts.chance.random()
        seconds = min(seconds, max(0.0, self._course.remaining_seconds(self._parts)))
        await asyncio.sleep(seconds)
        self._course.gate_seconds += seconds

    async def _permit(self, route: Route) -> Permit | NoPermit:
        """Wait for the first destination that may be called while there is time for the call."""
        course, parts = self._course, self._parts
        seconds = course.remaining_seconds(parts) - SHORTEST_CALL_SECONDS
        if seconds <= 0:
            return NoPermit.TIME_IS_UP
        if not route.lanes:
            if nowhere(course, route.plan) is not None:
                return NoPermit.LOOK_AGAIN  # the last of them went away while it rested: that is its end
            if not self._may_park:
                await self._rest(ROUND_PAUSE_LAST_SECONDS)
            return NoPermit.PARK if self._may_park else NoPermit.LOOK_AGAIN
        if (permit := route.lanes[0].permit_at_once()) is not None:
            return permit  # the way of most where many come; a ticket costs a twentieth of a match
        changes = False
        if route.plan.again_at_seconds is not None:
            left = max(0.0, route.plan.again_at_seconds - course.age_seconds(parts))
            changes, seconds = left < seconds, min(left, seconds)
        ticket = Ticket(
            self.hold.priority,
            (self.hold.deadline_ms, self._arrival),
            route.lanes,
            parts.policy.max_gate_wait_seconds,
            may_park=self._may_park,
            called_to=self._called_to,
            deadline_at=parts.loop.time() + course.remaining_seconds(parts),
        )
        since = parts.now()
        noting = parts.loop.call_later(NOTE_SECONDS, self._begin_note, route) if course.attempts else None
        try:
            got = await ticket.wait(seconds)
        finally:
            course.gate_seconds += parts.now() - since
            if noting is not None:
                noting.cancel()
        return NoPermit.LOOK_AGAIN if got is NoPermit.TIME_IS_UP and changes else got

    async def _park(self, route: Route) -> None:
        """Wait outside. Raises IsParked or LetGo; returns where the broker has no memory left: then it waits here."""
        course, parts = self._course, self._parts
        self.waiting = self.leaving = True
        stay = stay_of(course, parts, route, code_of(course, route) if course.attempts else None)
        try:
            parked = await parts.insist("park", lambda: park(parts, stay))
        finally:
            self.waiting = False
        if parked is None:
            self._may_park = self.leaving = False
            return
        if not parked:
            raise LetGo
        for lane in route.lanes:
            lane.outside.park_one(parts.policy.namespace, self.hold.priority)
        raise IsParked

    async def _is_ready(self, end: End) -> bool:
        """Whether its game listens, where the catalog says how to tell; else it is left behind, condemned."""
        course, parts = self._course, self._parts
        check = parts.policy.ready_checks.get(course.request.image)
        if check is None or not isinstance(end, Placed):
            return True
        if (self.hold.doubtful or course.lapsed_at is not None) and course.attempts[-1].outcome is Outcome.ADOPTED:
            return True  # it may be in play
        since, left_seconds = parts.now(), course.remaining_seconds(parts)
        reason = await why_not_ready(end.session, check, parts.answers, seconds_max=left_seconds)
        course.provider_seconds += parts.now() - since
        if reason is None:
            return True
        destination = end.candidate.destination
        parts.observe(NotReady(self.hold.request_id, destination, reason))
        course.tell(parts, "not_ready", session=end.session.id, reason=reason)
        course.suspects.add(destination.provider)
        course.message = f"{destination}: {reason}"
        if external_port(end.session, check) is None:
            course.passed_over[destination] = reason  # nor will another session there publish it
        course.call_it(len(course.attempts) - 1, Outcome.UNAVAILABLE)
        course.set_back(destination)
        course.failures[destination] = course.failures.get(destination, 0) + 1
        await self._leave_nothing(end)
        await next_generation(course, parts, "not ready")
        return False

    def _begin_note(self, route: Route) -> None:
        self._noting = self._parts.loop.create_task(self._note(route))

    async def _note(self, route: Route) -> None:
        """Say to who reads the hash why the request waits; not worth waiting for a broker that is away."""
        course, parts = self._course, self._parts
        try:
            code = code_of(course, route)
            await parts.broker.note(self.hold, tuple(course.attempts), code, course.message)
        except BrokerUnavailable as trouble:
            parts.insist.away("note", trouble)

    def _tell_fallback(self, candidate: Candidate, route: Route) -> None:
        course = self._course
        before = course.region or route.plan.candidates[0].region
        if candidate.region != before:
            last = str(course.attempts[-1].outcome) if course.region and course.attempts else "shut_or_busy"
            self._parts.observe(FellBack(before, candidate.region, last))
        course.region = candidate.region

    async def _leave_nothing(self, end: End) -> None:
        """A session under an id of a warm pool's own is found by nobody else: condemn it, unless it is in play."""
        known = {self._course.session_id(self._parts), *self._found_ids}
        if isinstance(end, Placed) and end.session.id not in known:
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
        self.leaving = True
        since = parts.now()
        match await parts.insist("commit", lambda: parts.broker.commit(last)):
            case Stale():
                await self._leave_nothing(end)
                raise LetGo
            case IsCondemned():
                self.leaving = False
                return False
            case Done() | Already():
                pass
        self.left = None
        commit_seconds, leg_seconds = parts.now() - since, parts.loop.time() - self.began_at
        total_seconds = (now_ms - self.hold.enqueued_at_ms) / 1000 + commit_seconds
        parts.observe(
            told(end, course, parts.policy, total_seconds, commit_seconds=commit_seconds, leg_seconds=leg_seconds)
        )
        return True
