"""What is known of one request on its way: where it has been, what it was told, what may have been left behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from allocator.broker.broker import Condemned, Hold
from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.destination import Destination
from allocator.contract.identity import session_id
from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK, AllocationRequest, ttl_seconds
from allocator.engine.parts import Parts, Policy
from allocator.placement.plan import Candidate
from allocator.providers.provider import StartSpec

SHORTEST_CALL_SECONDS = 0.05


@dataclass(slots=True)
class Course:
    """One request, while this process holds it. Only the engine changes it."""

    hold: Hold
    request: AllocationRequest
    spec: StartSpec
    ttl_seconds: int
    lease_until: float
    """On the loop's clock: before a call is made later than this, the lease is asked for anew."""
    generation: int
    attempts: list[Attempt]
    suspects: set[str]
    """Providers that may have a session under this generation's id that nobody has recorded."""
    failures: dict[Destination, int] = field(default_factory=dict)
    passed_over: dict[Destination, str] = field(default_factory=dict)
    unauthorized: str = ""
    message: str = ""
    """What the last refusal said."""
    region: str = ""
    gate_seconds: float = 0.0
    provider_seconds: float = 0.0
    _session_id: tuple[int, str] = (0, "")

    @classmethod
    def begin(cls, hold: Hold, request: AllocationRequest, parts: Parts, *, lease_until: float) -> Course:
        """Start where the hold stands; after a take-over every provider is under suspicion."""
        return cls(
            hold=hold,
            request=request,
            spec=_spec(request, parts.policy),
            ttl_seconds=ttl_seconds(request.ttl or parts.policy.session_ttl),
            lease_until=lease_until,
            generation=hold.generation,
            attempts=list(hold.attempts),
            suspects=set(parts.providers) if hold.uncertain else set(),
        )

    def session_id(self, parts: Parts) -> str:
        """The id that a session of this generation bears."""
        generation, name = self._session_id
        if generation != self.generation:
            name = session_id(parts.policy.deployment, self.request.id, self.generation)
            self._session_id = (self.generation, name)
        return name

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
    ) -> None:
        """Add one attempt to the answer."""
        destination = candidate.destination
        self.attempts.append(
            Attempt(
                region=candidate.region,
                provider=destination.provider,
                location=destination.location,
                outcome=outcome,
                status=status,
                at=at_ms,
                duration_ms=round(seconds * 1000, 3),
                waited_ms=round(waited_seconds * 1000, 3),
            )
        )


def _marks(request_id: str, policy: Policy) -> dict[str, str]:
    """What a session bears to be known again: by its deployment, its request, and where that one's record is."""
    return {MARK: policy.deployment, REQUEST_MARK: request_id, NAMESPACE_MARK: policy.namespace}


def _spec(request: AllocationRequest, policy: Policy) -> StartSpec:
    return StartSpec(
        image=request.image,
        version=request.version,
        env=request.env,
        args=request.args,
        labels={**request.labels, **_marks(request.id, policy)},
        restart=request.restart,
        ttl=request.ttl or policy.session_ttl,
        players=request.players,
        port_names=policy.port_names.get(request.image, {}),
    )
