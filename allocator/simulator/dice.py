"""Which faults strike a call.

In: the faults of the settings, the operation and the place it concerns. Out: a `Fate`. The same seed and the same
order of calls give the same fates; each fault rolls its own dice, so that one more fault changes none of the others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from allocator.simulator.faults import Decisive, Slows, Strike

_S = TypeVar("_S", bound=Strike)


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to become of one call: `decisive` of its course, the rest of its answer."""

    decisive: Decisive | None = None
    slow_ms: float = 0.0
    others: tuple[Strike, ...] = ()

    def struck_by(self, kind: type[_S]) -> _S | None:
        """The first of the other faults of this kind that struck."""
        return next((fault for fault in self.others if isinstance(fault, kind)), None)


_CALM = Fate()


@dataclass(slots=True)
class _Die:
    fault: Strike
    random: random.Random
    struck: int = field(default=0)

    def strikes(self, place: str | None) -> bool:
        fault = self.fault
        if (places := fault.places) and place not in places:
            return False
        if fault.times is not None and self.struck >= fault.times:
            return False
        if fault.probability < 1.0 and self.random.random() >= fault.probability:
            return False
        self.struck += 1
        return True


class Dice:
    """One die for each fault, kept for as long as these settings apply."""

    def __init__(self, faults: Sequence[Strike], seed: int) -> None:
        self._by_operation: dict[str, list[_Die]] = {}
        for place, fault in enumerate(faults):
            seeded = random.Random(f"{seed}:{place}" if fault.seed is None else fault.seed)  # noqa: S311 - a simulation
            die = _Die(fault, seeded)
            for operation in dict.fromkeys(fault.on):
                self._by_operation.setdefault(operation, []).append(die)

    def cast(self, operation: str, place: str | None) -> Fate:
        """Say what strikes this call: the first decisive fault, and every other that strikes."""
        dice = self._by_operation.get(operation)
        if not dice:
            return _CALM
        decisive: Decisive | None = None
        slow_ms = 0.0
        others: list[Strike] = []
        for die in dice:
            match die.fault:
                case Slows(latency_ms=(low, high)):
                    if die.strikes(place):
                        slow_ms += die.random.uniform(low, high)
                case Decisive() as fault:
                    if decisive is None and die.strikes(place):
                        decisive = fault
                case fault:
                    if die.strikes(place):
                        others.append(fault)
        return Fate(decisive, slow_ms, tuple(others))
