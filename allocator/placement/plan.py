"""Which destinations, in which order; what to call the end when none served. Pure: no clock, no I/O.

In: the regions a request names and what the settings know of them. Out: candidates, best first, and for every region
that is left out the reason. Whether a candidate can be called now is the gate's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.codes import Code
from allocator.contract.destination import Destination


@dataclass(frozen=True, slots=True)
class Candidate:
    """A destination that may serve, and the region of the request it stands for."""

    region: str
    destination: Destination


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A region that cannot serve, and why."""

    region: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates, best first, and the regions that are none."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...] = ()


Atlas = Callable[[str], Sequence[Destination]]
"""The destinations of a region in order of preference; empty where the region is unknown."""


def plan(
    regions: Iterable[str], atlas: Atlas, *, passed_over: frozenset[Destination], failures: dict[Destination, int]
) -> Plan:
    """Order the destinations of the regions as they were named.

    `passed_over` never can serve this request (image unknown there). `failures` counts the calls of this request that
    came to nothing without a refusal: a destination that has failed it goes behind those that have failed it less.
    """
    candidates: list[Candidate] = []
    left_out: list[LeftOut] = []
    seen: set[Destination] = set()
    for region in regions:
        destinations = atlas(region)
        if not destinations:
            left_out.append(LeftOut(region, "unknown here"))
        elif all(destination in passed_over for destination in destinations):
            left_out.append(LeftOut(region, "cannot serve this request"))
        for destination in destinations:
            if destination not in seen and destination not in passed_over:
                seen.add(destination)
                candidates.append(Candidate(region, destination))
    candidates.sort(key=lambda candidate: failures.get(candidate.destination, 0))
    return Plan(tuple(candidates), tuple(left_out))


def deadline_code(attempts: Sequence[Attempt], shut: Iterable[Outcome], *, unauthorized: bool) -> Code:
    """Name the end of a request whose deadline came: by the last answer of each destination, or why it is shut.

    A destination that said "full" weighs most, for it is what more capacity would mend; then failures; a refused
    credential only where nothing else could have served.
    """
    last = {(attempt.provider, attempt.location): attempt.outcome for attempt in attempts}
    said = {*last.values(), *shut}
    if said & {Outcome.THROTTLED, Outcome.NO_CAPACITY}:
        return Code.NO_CAPACITY
    if said & {Outcome.UNAVAILABLE, Outcome.UNKNOWN} and not unauthorized:
        return Code.UNAVAILABLE
    if unauthorized:
        return Code.UNAUTHORIZED
    return Code.DEADLINE
