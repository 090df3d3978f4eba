"""What one seed stands for: the size of a world, what is asked of it, and how badly it is treated.

In: a seed. Out: a frozen `Scenario`. Each family of faults is on or off by seed, so that some worlds are calm in all
but one way; a fault that needs a promise the engine does not make yet is off unless `Switches` says so.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tests.simulation.waits import REGIONS, Waits, waits
from tests.simulation.wire import WireFaults

__all__ = ["REGIONS", "Chaos", "HostFaults", "Neighbour", "Scenario", "Switches", "crowded", "scenario"]


class Neighbour(StrEnum):
    """Who else uses the account."""

    DEPLOYMENT = "another deployment, with requests of the same ids"
    NAMESPACE = "another namespace of the same deployment"


@dataclass(frozen=True, slots=True)
class Switches:
    """Faults that wait for the engine to answer them."""

    other_ids: bool = False
    """A warm pool serves a start under an id of its own."""
    lost_tail: bool = False
    """The store is restored from a snapshot."""


@dataclass(frozen=True, slots=True)
class HostFaults:
    """Shares of the starts, and of finds and stops, that go wrong at the host."""

    lost_reply: float = 0.0
    no_answer: float = 0.0
    late_create: float = 0.0
    late_seconds_max: float = 15.0
    twice: float = 0.0
    """The start arrives twice: the second answer, a conflict, is the one that is heard."""
    no_room: float = 0.0
    unavailable: float = 0.0
    unreachable: float = 0.0
    not_found: float = 0.0
    credential: float = 0.0
    rejected: float = 0.0
    other_id: float = 0.0
    """Starts that a warm pool serves, whatever becomes of the reply."""
    look_ups: float = 0.0
    exits: float = 0.0
    """Sessions that end by themselves, a share of the chaos's turns."""
    unclear: float = 0.0
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Chaos:
    """What befalls processes, a weight each; none happens after `Scenario.faults_seconds`."""

    every_seconds: float = 3.0
    crash: float = 0.0
    pause: float = 0.0
    cut_store: float = 0.0
    cut_host: float = 0.0
    store_away: float = 0.0
    store_full: float = 0.0
    drain: float = 0.0
    skew: float = 0.0
    restore: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world."""

    seed: int
    workers: int
    requests: int
    calm_requests: int
    """Asked for after the last fault: these must be served."""
    faults_seconds: float
    lease_seconds: float
    call_timeout_seconds: float
    rate: float
    first_capacity: int | None
    concurrency: int
    backlog: int
    drain_seconds: float
    resends: float
    cancels: float
    other_bodies: float
    remains: float
    """Share of ids under which a session runs already, from before the store was emptied."""
    store: WireFaults
    host: HostFaults
    chaos: Chaos
    through_the_horizon: bool = False
    """Whether the calm lasts until nothing is condemned any more."""
    neighbour: Neighbour | None = None
    strangers: int = 0
    """Sessions of each namespace that no record explains."""
    eager: bool = False
    """Whether the reconcilers look every few seconds."""
    waits: Waits = field(default_factory=Waits)
    switches: Switches = field(default_factory=Switches)


def scenario(seed: int, switches: Switches | None = None) -> Scenario:
    """Draw the world of a seed."""
    chance = random.Random(f"scenario {seed}")
    switches = switches or Switches()

    def share(most: float, likely: float = 0.5) -> float:
        return round(chance.random() * most, 3) if chance.random() < likely else 0.0

    beside = random.Random(f"beside {seed}")  # its own, so that a seed's world stays what it was in all else
    lease_seconds = chance.choice((2.0, 3.0, 5.0))
    world = Scenario(
        seed=seed,
        workers=chance.choice((1, 2, 2, 3)),
        requests=chance.randint(8, 24),
        calm_requests=2,
        faults_seconds=chance.uniform(10.0, 30.0),
        lease_seconds=lease_seconds,
        call_timeout_seconds=chance.choice((1.0, 2.0)),
        rate=chance.choice((3.0, 10.0, 40.0)),
        first_capacity=chance.choice((None, 0, 3)),
        concurrency=chance.choice((2, 8, 64)),
        backlog=chance.choice((40, 64)),  # what waits at three shut lanes would fill a smaller one
        drain_seconds=chance.choice((0.3, 3.0)),
        resends=share(0.5),
        cancels=share(0.4),
        other_bodies=share(0.2, 0.3),
        remains=share(0.4, 0.25),
        store=WireFaults(
            refused=share(0.1),
            lost_reply=share(0.15),
            late=share(0.1, 0.4),
            late_seconds_max=chance.choice((0.5, 2 * lease_seconds)),
            timeout_seconds=chance.choice((0.05, 1.0)),
        ),
        host=HostFaults(
            lost_reply=share(0.3),
            no_answer=share(0.2),
            late_create=share(0.3),
            late_seconds_max=chance.choice((1.0, 4.0, 15.0)),
            twice=share(0.1, 0.3),
            no_room=share(0.3),
            unavailable=share(0.3),
            unreachable=share(0.1, 0.2),
            not_found=share(0.1, 0.2),
            credential=share(0.03, 0.1),
            rejected=share(0.05, 0.2),
            other_id=beside.choice((0.1, 0.5, 1.0)) if switches.other_ids else 0.0,
            look_ups=share(0.4),
            exits=share(0.3, 0.3),
            unclear=share(0.3, 0.3),
            slow=chance.random() < 0.2,
        ),
        chaos=Chaos(
            every_seconds=chance.choice((1.0, 2.0, 5.0)),
            crash=share(1.0, 0.6),
            pause=share(1.0, 0.5),
            cut_store=share(0.5),
            cut_host=share(0.5, 0.3),
            store_away=share(0.5, 0.4),
            store_full=share(0.3, 0.2),
            drain=share(0.5, 0.4),
            skew=share(0.3, 0.2),
            restore=share(0.2) if switches.lost_tail else 0.0,
        ),
        through_the_horizon=chance.random() < 0.03,
        neighbour=beside.choice((None, None, None, None, *Neighbour)),
        strangers=beside.choice((0, 0, 1, 3)),
        eager=beside.random() < 0.5,
        switches=switches,
    )
    return crowded(world) if seed % 2 else world


def crowded(world: Scenario) -> Scenario:
    """The same world with too little room for all who come: every other seed's."""
    chance = random.Random(f"waits {world.seed}")
    return replace(
        world,
        rate=chance.choice((1.0, 2.0, 5.0)),
        requests=chance.choice((16, 30, 50)),
        concurrency=chance.choice((2, 8, 64)),
        backlog=64,
        neighbour=world.neighbour if chance.random() < 0.3 else None,
        waits=waits(chance),
    )
