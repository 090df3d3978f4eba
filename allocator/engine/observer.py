"""What happens, told as it happens: one frozen event per step, for whoever listens.

The core knows no metrics, logs or traces; it calls `observe(event)` and goes on. An observer must be quick and must
not raise. Seconds are floats; nothing here holds `env`, `args` or a credential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from allocator.broker.broker import Survey
from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.gate.gate import Cause


@dataclass(frozen=True, slots=True)
class Received:
    """A new request was reserved, `queued_seconds` after Redis took its entry."""

    priority: Priority
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


@dataclass(frozen=True, slots=True)
class Attempted:
    """One call to start a session came back."""

    request_id: str
    region: str
    destination: Destination
    outcome: Outcome
    status: int | None
    waited_seconds: float
    provider_seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class FellBack:
    """A request goes to another region than it was sent to before."""

    from_region: str
    to_region: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A request has its last state, recorded and announced."""

    request_id: str
    state: State
    code: Code | None
    total_seconds: float
    provider_seconds: float
    gate_seconds: float
    commit_seconds: float
    first_choice: bool | None
    """Whether the first region it named serves it; None where none does."""

    @classmethod
    def unserved(cls, request_id: str, code: Code, total_seconds: float) -> Finished:
        """A request that failed before anything was called for it."""
        return cls(
            request_id=request_id,
            state=State.FAILED,
            code=code,
            total_seconds=total_seconds,
            provider_seconds=0.0,
            gate_seconds=0.0,
            commit_seconds=0.0,
            first_choice=None,
        )


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A request was taken over by another worker while this one held it."""

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
class RateSeen:
    """What the fleet gives a destination now; told every few seconds."""

    destination: Destination
    rate: float


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
    """What waits and what is held, over the fleet."""

    survey: Survey


Event = (
    Received
    | TakenOver
    | Refused
    | Attempted
    | FellBack
    | Finished
    | LeaseLost
    | GateShut
    | Slowed
    | Parked
    | RateSeen
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
