"""What happens, told as it happens: one frozen event per step, for whoever listens.

The core knows no metrics, logs or traces; it calls `observe(event)` and goes on. An observer must be quick and must
not raise. Seconds are floats; nothing here holds `env`, `args` or a credential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from allocator.broker.broker import Survey
from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.contract.values import quick
from allocator.gate.gate import Cause, LimitState


@quick
@dataclass(frozen=True, slots=True)
class Leg:
    """One worker's part of a request's way; `traceparent` is the request's own.

    `place` tells it from the other legs of the request, `before` is the place of the one that it goes on from.
    """

    request_id: str
    entry_id: str
    priority: Priority
    traceparent: str | None = None
    place: tuple[int, int] = (1, 0)
    before: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A new request was reserved, `queued_seconds` after Redis took its entry."""

    leg: Leg
    queued_seconds: float


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A request whose worker let its lease end goes on here."""

    request_id: str
    uncertain: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry made no request of its own; `buried` where its bytes were kept."""

    code: Code
    message: str
    request_id: str | None
    buried: bool


@quick
@dataclass(frozen=True, slots=True)
class Attempted:
    """One call to start a session came back; `called_at` is when it was made, on the loop's clock.

    Where it was pushed back it is told once it is known what that meant, which may be after the request has ended.
    """

    leg: Leg
    region: str
    destination: Destination
    outcome: Outcome
    status: int | None
    waited_seconds: float
    provider_seconds: float
    called_at: float
    message: str = ""

    @property
    def request_id(self) -> str:
        """The request it was for."""
        return self.leg.request_id


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A session whose fate was unknown was asked for; `found` says what the provider answered, in a word."""

    leg: Leg
    provider: str
    found: str
    asked_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class FellBack:
    """A request goes to another region than it was sent to before, or than its plan has first."""

    from_region: str
    to_region: str
    reason: str


@quick
@dataclass(frozen=True, slots=True)
class Finished:
    """A request has its last state, recorded and announced; `leg_seconds` after it came to this worker."""

    leg: Leg
    state: State
    code: Code | None
    total_seconds: float
    provider_seconds: float
    gate_seconds: float
    commit_seconds: float
    first_choice: bool | None
    """Whether the first region it named serves it; None where none does, or none was named."""
    leg_seconds: float
    attempts: int = 0
    region: str | None = None
    destination: Destination | None = None
    """Where it is served."""

    @property
    def request_id(self) -> str:
        """The request."""
        return self.leg.request_id

    @classmethod
    def unserved(cls, leg: Leg, code: Code, total_seconds: float) -> Finished:
        """A request that failed before anything was called for it."""
        return cls(
            leg=leg,
            state=State.FAILED,
            code=code,
            total_seconds=total_seconds,
            provider_seconds=0.0,
            gate_seconds=0.0,
            commit_seconds=0.0,
            first_choice=None,
            leg_seconds=0.0,
        )


@dataclass(frozen=True, slots=True)
class Left:
    """A worker has a request no more, and did not end it.

    `why` is `parked`, `cancelled` (by its matchmaker, so that another step ends it), `lost`, `handed_back` or `fault`.
    """

    leg: Leg
    why: str
    leg_seconds: float


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A request was taken over by another worker while this one held it; not where it was cancelled."""

    request_id: str


@dataclass(frozen=True, slots=True)
class GateShut:
    """A limit was found shut: a destination, or with location `*` a whole account."""

    destination: Destination
    cause: Cause
    seconds: float
    message: str


@dataclass(frozen=True, slots=True)
class Slowed:
    """A destination was asked too fast: the fleet gives `rate` a second from here on, and more by and by."""

    destination: Destination
    rate: float


@dataclass(frozen=True, slots=True)
class Parked:
    """A request waits outside until a lane has room for it."""

    request_id: str


@dataclass(frozen=True, slots=True)
class NotReady:
    """A session was created and its game never listened: it is stopped, and the request goes on elsewhere."""

    request_id: str
    destination: Destination
    message: str


@dataclass(frozen=True, slots=True)
class GateOpened:
    """A probe found a limit open again."""

    destination: Destination


@dataclass(frozen=True, slots=True)
class SessionStopped:
    """A condemned session was found alive and stopped."""

    provider: str
    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A session that was condemned before a loss of Redis is alive: it may be in play, so it is not stopped."""

    provider: str
    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What the last pass over the providers' sessions counted; told by every worker, `passed` by the one that made it.

    `orphans` by kind; `failures` says by provider why its sessions could not be listed: its counts stay as they were.
    """

    orphans: Mapping[str, int]
    condemned_alive: int
    failures: Mapping[str, str]
    passed: bool


@dataclass(frozen=True, slots=True)
class BrokerTrouble:
    """The broker could not be asked; told once per fault, not per repeat. `step` is what was tried."""

    step: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class BrokerBack:
    """The broker answers again."""

    away_seconds: float


@dataclass(frozen=True, slots=True)
class Crashed:
    """A fault of this program, caught at the edge of one request or loop so that the rest goes on."""

    where: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class Surveyed:
    """How the whole fleet stands: told by the one worker that samples for all, good for so many seconds.

    `gates` by provider and location (`*` is the account); `orphans` by kind, None where nobody has counted them yet.
    """

    survey: Survey
    good_for_seconds: float
    gates: Mapping[Destination, LimitState] = field(default_factory=dict)
    orphans: Mapping[str, int] | None = None
    condemned_alive: int = 0


Event = (
    Received
    | TakenOver
    | Refused
    | Attempted
    | LookedUp
    | Left
    | FellBack
    | Finished
    | LeaseLost
    | GateShut
    | Slowed
    | Parked
    | NotReady
    | GateOpened
    | SessionStopped
    | LeftAlone
    | Reconciled
    | BrokerTrouble
    | BrokerBack
    | Crashed
    | Surveyed
)

Observer = Callable[[Event], None]
