"""The port to the operators' levers: what a person has set for the whole fleet, for a time or until it is undone.

In: what `allocator regions` and `allocator pause` ask for. Out: `Levers`, as they stand now: what has lapsed is gone.
They are kept in the broker, beside the requests, so that every worker sees them within a second and a restart keeps
them: a hash with a field for each, its end (by the clock of the store) and its value. What a lever does is the
service's to carry out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Protocol

PAUSED = "paused"
DRAINED = "drained:"
RATE = "rate:"
"""The fields of the hash; what stands after a colon is the region's name."""


@dataclass(frozen=True, slots=True)
class RegionLever:
    """What is set for one region: nothing new starts there, or another rate for each of its destinations.

    The `_until_ms` are Unix milliseconds; None: until it is undone.
    """

    drained: bool = False
    drained_until_ms: int | None = None
    rate: float | None = None
    rate_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Levers:
    """All that is set."""

    paused: bool = False
    paused_until_ms: int | None = None
    regions: Mapping[str, RegionLever] = field(default_factory=dict)


class LeverBoard(Protocol):
    """The levers of one namespace. All raise BrokerUnavailable."""

    async def read(self) -> Levers:
        """What is set now."""
        ...

    async def pause(self, for_ms: int | None) -> None:
        """Let no worker take anything up, for so long or until `resume`."""
        ...

    async def resume(self) -> None:
        """Take up again."""
        ...

    async def drain(self, region: str, for_ms: int | None) -> None:
        """Start nothing new in a region; what runs there goes on."""
        ...

    async def set_rate(self, region: str, rate: float, for_ms: int | None) -> None:
        """Give each destination of a region this rate, session starts a second over the fleet."""
        ...

    async def resume_region(self, region: str) -> None:
        """Undo all that is set for a region."""
        ...


def levers_of(fields: Mapping[str, str]) -> Levers:
    """Read the fields of the hash, each `<Unix ms of its end, 0: none> <value>`; what is not understood is no lever."""
    levers, regions = Levers(), dict[str, RegionLever]()
    for name, text in fields.items():
        ends, _, value = text.partition(" ")
        if not (ends.isascii() and ends.isdecimal()):
            continue
        until_ms = int(ends) or None
        if name == PAUSED:
            levers = replace(levers, paused=True, paused_until_ms=until_ms)
        elif name.startswith(DRAINED):
            region = name.removeprefix(DRAINED)
            lever = regions.get(region, RegionLever())
            regions[region] = replace(lever, drained=True, drained_until_ms=until_ms)
        elif name.startswith(RATE) and (rate := _rate(value)) is not None:
            region = name.removeprefix(RATE)
            lever = regions.get(region, RegionLever())
            regions[region] = replace(lever, rate=rate, rate_until_ms=until_ms)
    return replace(levers, regions=regions)


def _rate(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if isfinite(rate) and rate > 0 else None
