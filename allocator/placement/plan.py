"""Which destinations, in which order; what to call the end when none served. Pure: no clock, no I/O.

In: what a request wishes, what the settings and operators say of its regions, and what befell it so far. Out:
candidates, best first, and for every region and destination that is left out the reason. The order of the regions is a
policy's; caps, weights, drained regions and setbacks apply whatever the policy. Whether a candidate can be called now
is the gate's to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.request import LatencyCap, Player
from allocator.contract.values import quick
from allocator.placement.latencies import Caps

FAULT_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Place:
    """A destination as one region names it. `weight`: its share among the region's weighted ones; None: in order."""

    destination: Destination
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """What a region's name leads to. `drained` says why nothing new may start there; empty where it may."""

    places: tuple[Place, ...]
    drained: str = ""


Atlas = Callable[[str], Region | None]
"""What a region's name leads to; None where it is unknown here."""


@quick
@dataclass(frozen=True, slots=True)
class Wish:
    """What a request wishes, as far as its place is concerned. `age_seconds` since Redis took it."""

    request_id: str
    regions: tuple[str, ...]
    players: tuple[Player, ...] = ()
    latency_caps: tuple[LatencyCap, ...] = ()
    age_seconds: float = 0.0


class Policy(Protocol):
    """In which order the regions of a request are tried: those in `policies`, or a studio's own."""

    def order(self, wish: Wish) -> Sequence[str]:
        """The regions of the wish, best first, at once and without I/O.

        A region left out is refused to this request; one that the wish does not name is passed over. What raises or
        is no sequence of names costs the request nothing: the order named stands in.
        """
        ...


@quick
@dataclass(frozen=True, slots=True)
class Candidate:
    """A destination that may serve, and the region of the request it stands for.

    `guest`: the request had rather gone to another region.
    """

    region: str
    destination: Destination
    guest: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A region, or one destination of it, that cannot serve now, and why."""

    region: str
    reason: str
    destination: Destination | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates, best first, and who is none.

    `waiting_for`: destinations that no call may go to now and that may serve later (drained ones, those over a cap
    that will loosen). `again_at_seconds`: the age at which another cap changes the plan. `fault`: what the policy did
    amiss, empty where it did well; the order named stood in for its own.
    """

    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...] = ()
    waiting_for: tuple[Destination, ...] = ()
    again_at_seconds: float | None = None
    fault: str = ""


def plan(
    wish: Wish,
    atlas: Atlas,
    policy: Policy,
    *,
    passed_over: Mapping[Destination, str],
    setbacks: Mapping[Destination, int],
) -> Plan:
    """Order the destinations of the wish's regions, each once.

    `passed_over` never can serve this request (image unknown there), for the reason given. `setbacks` counts the calls
    of this request that came to nothing without a refusal: a destination that had more goes behind those that had less.
    """
    order, fault = _order(wish, policy)
    caps = Caps(wish.latency_caps, wish.players, wish.age_seconds)
    candidates: dict[Destination, Candidate] = {}
    left_out: list[LeftOut] = []
    waiting_for: dict[Destination, None] = {}
    usable: list[str] = []
    for name in order:
        region = atlas(name)
        if region is None or not region.places:
            left_out.append(LeftOut(name, "unknown here"))
            continue
        drawn = _drawn(wish.request_id, name, region.places)
        left_out += [
            LeftOut(name, passed_over[each] or "cannot serve this request", each)
            for each in drawn
            if each in passed_over
        ]
        destinations = [each for each in drawn if each not in passed_over] if passed_over else drawn
        if not destinations:
            continue
        usable.append(name)
        if not caps.ever_lets_in(name):
            left_out.append(LeftOut(name, caps.reason(name)))
        elif region.drained or not caps.lets_in(name):
            left_out.append(LeftOut(name, region.drained or caps.reason(name)))
            waiting_for.update(dict.fromkeys(destinations))
        else:
            own = [each for each in destinations if each not in candidates]
            if not own:
                left_out.append(LeftOut(name, "all that it leads to stands under a better region"))
            for each in own:
                candidates[each] = Candidate(name, each, name != order[0])
    left_out += [LeftOut(name, "the placement policy leaves it out") for name in wish.regions if name not in order]
    ranked: Iterable[Candidate] = candidates.values()
    if setbacks:
        ranked = sorted(ranked, key=lambda each: setbacks.get(each.destination, 0))
    return Plan(
        candidates=tuple(ranked),
        left_out=tuple(left_out),
        waiting_for=tuple(each for each in waiting_for if each not in candidates),
        again_at_seconds=caps.again_at_seconds(usable),
        fault=fault,
    )


def why_nowhere(route: Plan) -> str | None:
    """Say why no region can serve the request, the sentence of `no_region`; None while one can, or may yet."""
    if route.candidates or route.waiting_for:
        return None
    if not route.left_out:
        return "the request names no regions and default_regions is empty"
    said = ", ".join(
        f"{each.region}{'' if each.destination is None else f' at {each.destination}'} ({each.reason})"
        for each in route.left_out
    )
    return f"no region of the request can serve it: {said}"


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


def _order(wish: Wish, policy: Policy) -> tuple[tuple[str, ...], str]:
    """The regions as the policy orders them; as they were named, and what is amiss, where it does not do its part."""
    try:
        answer = _names(policy.order(wish))
    except Exception as error:  # noqa: BLE001 - a policy is a studio's own code: whatever it raises, no match is lost
        answer = f"raised {type(error).__name__}: {error}"
    if isinstance(answer, str):
        said = " ".join(f"the placement policy {type(policy).__name__} {answer}".split())[:FAULT_CHARS_MAX]
        named = tuple(dict.fromkeys(wish.regions))
        return named, f"{said}; regions are tried as named: mend it, or set placement.policy to 'latency'"
    return tuple([name for name in dict.fromkeys(answer) if name in wish.regions]), ""


def _names(answer: object) -> tuple[str, ...] | str:
    """What a policy returned, where it is what it should be, else what it is instead."""
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        return f"returned {type(answer).__name__}, where a list of regions is due"
    names = tuple([each for each in answer if isinstance(each, str)])
    if len(names) < len(answer):
        return "returned a list that holds more than names of regions"
    return names


def _drawn(request_id: str, region: str, places: Sequence[Place]) -> tuple[Destination, ...]:
    """The places in order; where one of them has a weight, drawn without replacement in proportion to it.

    Each place draws an exponential time with its weight as the rate, and the earliest goes first (Efraimidis and
    Spirakis, 2006). The draw is a hash, so that a request taken over keeps its order. What weighs 0 comes last.
    """
    if len(places) > 1 and any(each.weight is not None for each in places):
        places = sorted(places, key=lambda each: _draw(request_id, region, each))
    return tuple([each.destination for each in places])


def _draw(request_id: str, region: str, place: Place) -> tuple[bool, float]:
    weight = 1.0 if place.weight is None else place.weight
    if weight == 0:
        return (True, 0.0)
    digest = blake2b("\0".join((request_id, region, str(place.destination))).encode(), digest_size=8).digest()
    # Half a step above 0, whose logarithm there is none.
    share = (int.from_bytes(digest) + 0.5) / 2**64
    return (False, -math.log(share) / weight)
