"""What the engine is made of: everything that one request needs on its way, built once by the composition root."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from allocator.broker.aftermath import Aftermath
from allocator.broker.broker import Broker
from allocator.broker.parking import Parking
from allocator.engine.budget import RetryBudget
from allocator.engine.clock import fine_clock
from allocator.engine.contact import Contact
from allocator.engine.insist import Insistence
from allocator.engine.lanes import Lanes
from allocator.engine.lookups import LookUps
from allocator.engine.observer import Observer
from allocator.engine.pushback import Judgement
from allocator.engine.readiness import ReadyCheck, ReadyProbe, tcp_answers
from allocator.engine.routes import Routes
from allocator.engine.survivors import Survivors
from allocator.gate.gate import Gate
from allocator.placement.plan import Atlas
from allocator.placement.policies import ByLatency
from allocator.placement.policies import Policy as PlacementPolicy
from allocator.providers.provider import Provider


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that the way of a request depends on; what they mean is the contract's section 6."""

    deployment: str
    default_regions: tuple[str, ...]
    request_timeout_seconds: float
    result_ttl_seconds: int
    session_ttl: str
    max_gate_wait_seconds: float
    lease_seconds: float
    concurrency: int
    backlog: int
    backlog_bytes: int
    drain_seconds: float
    call_timeout_seconds: Mapping[str, float]
    """By provider."""
    port_names: Mapping[str, Mapping[str, str]]
    """By image: `7777/udp` to the catalog's name."""
    names_at: Mapping[str, Mapping[str, tuple[str, str | None]]] = field(default_factory=dict)
    """By provider and image: what it is called there, and its version there where a request names none."""
    namespace: str = "allocator"
    order: PlacementPolicy = field(default_factory=ByLatency)
    """Which region first."""
    ready_checks: Mapping[str, ReadyCheck] = field(default_factory=dict)
    """By image."""
    observes: bool = False
    """The reconciler and the stopper only count: nothing is stopped but what a matchmaker wants released."""
    stops_per_minute_max: int = 30


@dataclass(slots=True)
class Parts:
    """The rooms of floor 2, joined. `atlas`, `policy` and `paused` are set anew while the worker runs."""

    broker: Broker
    aftermath: Aftermath
    parking: Parking
    gate: Gate
    lanes: Lanes
    providers: Mapping[str, Provider]
    atlas: Atlas
    policy: Policy
    observe: Observer
    insist: Insistence
    chance: random.Random
    answers: ReadyProbe = tcp_answers
    paused: bool = False
    """Whether operators want nothing taken up."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    """Whose clock counts. Asked for anew, it costs a system call each time (Python 3.11)."""
    now: Callable[[], float] = field(init=False)
    """The fine clock, for durations."""
    contact: Contact = field(init=False)
    look_ups: LookUps = field(init=False)
    judgement: Judgement = field(init=False)
    budget: RetryBudget = field(init=False)
    survivors: Survivors = field(init=False)
    routes: Routes = field(init=False)

    def __post_init__(self) -> None:
        self.now = fine_clock(self.loop)
        self.contact = Contact(self.loop.time, lambda: self.policy.lease_seconds)
        self.look_ups = LookUps(self.lanes, self.providers, self.observe)
        self.judgement = Judgement(self.gate, self.look_ups, self.observe)
        self.budget = RetryBudget(self.gate, self.lanes)
        self.routes = Routes(self.lanes)
        self.survivors = Survivors(self.look_ups, self.providers, self.broker.now_ms)
