"""What the engine is made of: everything that one request needs on its way, built once by the composition root."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from allocator.broker.aftermath import Aftermath
from allocator.broker.broker import Broker
from allocator.engine.insist import Insistence
from allocator.engine.lanes import Lanes
from allocator.engine.observer import Observer
from allocator.gate.gate import Gate
from allocator.placement.plan import Atlas
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
    namespace: str = "allocator"
    observes: bool = False
    """The reconciler and the stopper only count: nothing is stopped but what a matchmaker wants released."""
    stops_per_minute_max: int = 30


@dataclass(frozen=True, slots=True)
class Parts:
    """The rooms of floor 2, joined."""

    broker: Broker
    aftermath: Aftermath
    gate: Gate
    lanes: Lanes
    providers: Mapping[str, Provider]
    atlas: Atlas
    policy: Policy
    observe: Observer
    insist: Insistence
    chance: random.Random
