"""What a bench is asked to do, as values."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """Who serves the matches of a round."""

    ALLOCATOR = "allocator"
    BARE = "bare"
    TRACED = "traced"
    """The allocator with traces on, sent to the provider's process."""


class Arrivals(StrEnum):
    """How matches of an open loop are spread over time."""

    POISSON = "poisson"
    EVEN = "even"


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """So many a second for so long, at moments set beforehand, whatever becomes of those before."""

    rate: float
    seconds: float
    arrivals: Arrivals = Arrivals.POISSON
    seed: int = 1

    @property
    def matches(self) -> int:
        """How many there are."""
        return max(1, round(self.rate * self.seconds))

    def moments(self) -> list[float]:
        """When each is to be sent, in seconds from the beginning."""
        if self.arrivals is Arrivals.EVEN:
            return [number / self.rate for number in range(self.matches)]
        chance = random.Random(self.seed)  # noqa: S311 - arrivals, the same again for the same seed
        moments, at = [], 0.0
        for _ in range(self.matches):
            at += chance.expovariate(self.rate)
            moments.append(at)
        return moments


@dataclass(frozen=True, slots=True)
class Backlog:
    """All at once, to be drained."""

    matches: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many wait at every moment: each answer lets one more in, until `matches` have theirs."""

    waiting: int
    matches: int


Load = OpenLoop | Backlog | Waiting


@dataclass(frozen=True, slots=True)
class Setup:
    """What the matches meet."""

    processes: int = 1
    in_flight: int = 256
    """Provider calls under way at once, in each process."""
    regions: int = 2
    provider_latency_ms: float = 0.0
    simulator: bool = False
    """Whether the provider is the simulated Gameye instead of the stub."""
    redis_url: str | None = None
    """None: an embedded server of this bench alone."""
    pin: bool = True
    patience_seconds: float = 120.0
    """What a round may take after the last match was sent."""

    def region_names(self) -> list[str]:
        """Each region, by name."""
        return [f"region-{number}" for number in range(self.regions)]


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores serve whom; None where nothing is pinned."""

    workers: frozenset[int]
    others: frozenset[int]


def share_out(cores: frozenset[int], processes: int) -> Cores | None:
    """A core for each serving process and the rest for all else; None where no core would be left."""
    if len(cores) <= processes:
        return None
    ordered = sorted(cores)
    return Cores(frozenset(ordered[-processes:]), frozenset(ordered[:-processes]))
