"""What makes requests wait: little room, hidden limits, caps that loosen, operators, games that never listen.

In: a seed. Out: a frozen `Waits`, part of a `Scenario`, and what a host is like under it. The defaults make nobody wait
longer than the rest of a scenario does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from allocator.providers.memory_host import MemoryLocation

REGIONS = ("europe", "us-east", "asia")
SPARE = "spare"
"""A location that every region leads to as well, where `Waits.spare` says so."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Why requests wait, beside what goes wrong."""

    timeouts_seconds: tuple[float, ...] = (0.5, 3.0, 8.0, 15.0, 25.0)
    calm_timeout_seconds: float = 150.0
    capacity: int | None = None
    """What each location but the first takes until the calm; None for no limit."""
    hidden_rate: int | None = None
    """Starts a second that each location takes, whatever the settings say."""
    offers_lie: float = 0.0
    """Lists of locations with room that name those without."""
    players: float = 0.0
    """Requests with latencies and caps."""
    spare: bool = False
    weighted: bool = False
    kept_share: float = 0.0
    """The part of a location's rate that guests do not get."""
    unready: float = 0.0
    """Sessions whose game never listens."""
    ready_check: bool = False
    levers_every_seconds: float = 0.0
    """How often an operator moves a lever; 0 for never."""


def waits(chance: random.Random) -> Waits:
    """Draw what a crowded world waits for."""

    def maybe(likely: float) -> bool:
        return chance.random() < likely

    ready_check = maybe(0.3)
    return Waits(
        timeouts_seconds=chance.choice(((3.0, 8.0, 15.0), (15.0, 25.0, 40.0), (0.5, 3.0, 8.0, 15.0, 25.0))),
        capacity=chance.choice((None, None, 0, 4)),
        hidden_rate=chance.choice((None, None, 1, 3)),
        offers_lie=0.3 if maybe(0.3) else 0.0,
        players=chance.random() if maybe(0.5) else 0.0,
        spare=maybe(0.3),
        weighted=maybe(0.5),
        kept_share=0.4 if maybe(0.3) else 0.0,
        unready=round(chance.random() * 0.5, 3) if ready_check else 0.0,
        ready_check=ready_check,
        levers_every_seconds=chance.choice((1.0, 4.0)) if maybe(0.5) else 0.0,
    )


def locations(wish: Waits, first_capacity: int | None, *, calm: bool = False) -> Mapping[str, MemoryLocation]:
    """What a host takes, by location: in the calm all but the first have room."""
    others = None if calm else wish.capacity
    capacities = {REGIONS[0]: first_capacity, **dict.fromkeys((*REGIONS[1:], SPARE), others)}
    return {name: MemoryLocation(capacity, wish.hidden_rate) for name, capacity in capacities.items()}
