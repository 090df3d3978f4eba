"""What is known of one request on its way: where it has been, what it was told, what may have been left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from allocator.broker.broker import Condemned, Hold
from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.destination import Destination
from allocator.contract.identity import session_id
from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK, AllocationRequest, ttl_seconds
from allocator.engine.legs import leg_of
from allocator.engine.observer import Leg
from allocator.engine.parts import Parts, Policy
from allocator.placement.plan import Candidate
from allocator.providers.provider import StartSpec

SHORTEST_CALL_SECONDS = 0.05
TRAIL_MAX = 32


@dataclass(slots=True)
class Course:
    """One request, while this process holds it. Only the engine changes it."""

    hold: Hold
    leg: Leg
    request: AllocationRequest
    spec: StartSpec
    """As the request has it; `spec_at` is it as a provider calls things."""
    ttl_seconds: int
    lease_until: float
    """On the loop's clock: before a call is made later than this, the lease is asked for anew."""
    generation: int
    attempts: list[Attempt]
    suspects: set[str]
    """Providers that may have a session under this generation's id that nobody has recorded."""
    failures: dict[Destination, int] = field(default_factory=dict)
    """Calls that came to nothing without a refusal."""
    setbacks: dict[Destination, int] = field(default_factory=dict)
    """These, and push-backs: who has been set back by a destination tries the others first."""
    repeats: bool = False
    """Whether the next call follows one whose outcome was unknown."""
    passed_over: dict[Destination, str] = field(default_factory=dict)
    unauthorized: str = ""
    message: str = ""
    """What the last refusal said."""
    lapsed_at: float | None = None
    """When it was last found that the lease had been over: what was known of the request before may be old."""
    region: str = ""
    gate_seconds: float = 0.0
    provider_seconds: float = 0.0
    trail: list[dict[str, Any]] = field(default_factory=list)
    """What `allocator explain` tells beyond the attempts."""
    _session_id: tuple[int, str] = (0, "")

    @classmethod
    def begin(
        cls,
        hold: Hold,
        request: AllocationRequest,
        parts: Parts,
        *,
        lease_until: float,
        called_to: str | None = None,
    ) -> Course:
        """Start where the hold stands; after a take-over every provider is under suspicion."""
        trail = read_trail(hold.trail)
        parked = _is_from_outside(hold, trail)
        leg = leg_of(hold, request.traceparent, trail, parked=parked)
        spec, ttl = _spec(request, parts.policy), ttl_seconds(request.ttl or parts.policy.session_ttl)
        attempts, suspects = list(hold.attempts), set(parts.providers) if hold.uncertain else set()
        course = cls(hold, leg, request, spec, ttl, lease_until, hold.generation, attempts, suspects)
        course.trail = trail
        for each in course.attempts:
            if each.outcome is Outcome.REJECTED:
                destination = Destination(each.provider, each.location)
                course.passed_over[destination] = f"it answered {each.status} before"
        if parked:
            spent = course.told("parked")
            parked_ms = max(0, parts.broker.now_ms() - spent["at"])
            course.gate_seconds = (parked_ms + _count(spent.get("gate_ms"))) / 1000
            course.provider_seconds = _count(spent.get("provider_ms")) / 1000
            course.tell(parts, "called" if called_to else "woken", **({"from": called_to} if called_to else {}))
        elif hold.takes > 1:
            course.tell(parts, "taken_over", uncertain=hold.uncertain, takes=hold.takes)
        return course

    def age_seconds(self, parts: Parts) -> float:
        """Since Redis took it."""
        return max(0.0, (parts.broker.now_ms() - self.hold.enqueued_at_ms) / 1000)

    def tell(self, parts: Parts, step: str, **what: Any) -> None:
        """Add a step to the trail."""
        self.trail = [*self.trail, {"at": parts.broker.now_ms(), "step": step, **what}][-TRAIL_MAX:]

    def told(self, step: str) -> dict[str, Any]:
        """What the last step of a kind says; empty where there is none."""
        return next((each for each in reversed(self.trail) if each["step"] == step), {})

    @property
    def trail_text(self) -> str:
        """The trail as it is kept; empty where there is none."""
        return json.dumps(self.trail, separators=(",", ":"), ensure_ascii=False) if self.trail else ""

    def lease(self, until: float) -> None:
        """The lease is good until then, on the loop's clock."""
        now = asyncio.get_running_loop().time()
        if now >= self.lease_until:
            self.lapsed_at = now
        self.lease_until = until

    def held_since(self, moment: float) -> bool:
        """Whether the lease has been good ever since, so that nobody else can have had the request."""
        kept = self.lapsed_at is None or self.lapsed_at < moment
        return kept and asyncio.get_running_loop().time() < self.lease_until

    def set_back(self, destination: Destination) -> None:
        """A destination did not serve."""
        self.setbacks[destination] = self.setbacks.get(destination, 0) + 1

    def session_id(self, parts: Parts) -> str:
        """The id that a session of this generation bears."""
        generation, name = self._session_id
        if generation != self.generation:
            name = session_id(parts.policy.deployment, self.request.id, self.generation)
            self._session_id = (self.generation, name)
        return name

    def spec_at(self, provider: str, policy: Policy) -> StartSpec:
        """What to run, in the provider's own names for the image and its version."""
        names = policy.names_at.get(provider)
        known = names.get(self.spec.image) if names else None
        if known is None:
            return self.spec
        image, version = known
        return replace(self.spec, image=image, version=self.spec.version or version)

    def condemned(self, parts: Parts, reason: str) -> tuple[Condemned, ...]:
        """What must not live on if this generation is left behind now."""
        name = self.session_id(parts)
        return tuple(Condemned(provider, name, reason) for provider in sorted(self.suspects))

    def remaining_seconds(self, parts: Parts) -> float:
        """Until the deadline."""
        return (self.hold.deadline_ms - parts.broker.now_ms()) / 1000

    def record(
        self,
        candidate: Candidate,
        outcome: Outcome,
        *,
        status: int | None,
        at_ms: int,
        seconds: float,
        waited_seconds: float,
    ) -> int:
        """Add one attempt to the answer; its place there."""
        destination = candidate.destination
        at = (candidate.region, destination.provider, destination.location)
        lasted_ms, waited_ms = round(seconds * 1000, 3), round(waited_seconds * 1000, 3)
        self.attempts.append(Attempt(*at, outcome, status, at_ms, lasted_ms, waited_ms))
        return len(self.attempts) - 1

    def call_it(self, attempt: int, outcome: Outcome) -> None:
        """Say of an attempt what came to be known later."""
        self.attempts[attempt] = replace(self.attempts[attempt], outcome=outcome)


def read_trail(text: str) -> list[dict[str, Any]]:
    """The trail as another worker has left it; what cannot be read is passed over."""
    if not text:
        return []
    try:
        found = json.loads(text)
    except ValueError:
        return []
    steps = found if isinstance(found, list) else []
    return [each for each in steps if isinstance(each, dict) and isinstance(each.get("at"), int) and "step" in each]


def _count(said: Any) -> float:
    """A number that another worker has left; 0 where it left none."""
    return said if isinstance(said, int | float) else 0


def was_parked(hold: Hold) -> bool:
    """Whether it comes from outside, where it waited, and from no other worker."""
    return _is_from_outside(hold, read_trail(hold.trail))


def _is_from_outside(hold: Hold, trail: Sequence[Mapping[str, Any]]) -> bool:
    return not hold.uncertain and bool(trail) and trail[-1]["step"] == "parked"


def _marks(request_id: str, policy: Policy) -> dict[str, str]:
    """What a session bears to be known again: by its deployment, its request, and where that one's record is."""
    return {MARK: policy.deployment, REQUEST_MARK: request_id, NAMESPACE_MARK: policy.namespace}


def _spec(request: AllocationRequest, policy: Policy) -> StartSpec:
    marks = _marks(request.id, policy)
    labels = {**request.labels, **marks} if request.labels else marks
    what = (request.image, request.version, request.env, request.args, labels, request.restart)
    port_names = policy.port_names.get(request.image, {})
    return StartSpec(*what, request.ttl or policy.session_ttl, request.ttl is not None, request.players, port_names)
