"""Which faults strike a call.

In: the faults of the settings, the operation and the region it concerns. Out: a `Fate`. The same seed and the same
order of calls give the same fates; each fault rolls its own dice, so that one more fault changes none of the others.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from allocator.simulator.gameye.faults import Decisive, DuplicatedPorts, Fault, NewFields, Operation, Slow


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to become of one call: `decisive` of its course, the rest of its answer."""

    decisive: Decisive | None = None
    slow_ms: float = 0.0
    duplicated_ports: bool = False
    new_fields: bool = False


_CALM = Fate()


@dataclass(slots=True)
class _Die:
    fault: Fault
    random: random.Random
    struck: int = field(default=0)

    def strikes(self, location: str | None) -> bool:
        fault = self.fault
        if fault.regions and location not in fault.regions:
            return False
        if fault.times is not None and self.struck >= fault.times:
            return False
        if fault.probability < 1.0 and self.random.random() >= fault.probability:
            return False
        self.struck += 1
        return True


class Dice:
    """One die for each fault, kept for as long as these settings apply."""

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        dice = [
            _Die(fault, random.Random(f"{seed}:{place}" if fault.seed is None else fault.seed))  # noqa: S311 - a simulation
            for place, fault in enumerate(faults)
        ]
        self._by_operation = {operation: [die for die in dice if operation in die.fault.on] for operation in Operation}

    def cast(self, operation: Operation, location: str | None) -> Fate:
        """Say what strikes this call: the first decisive fault, and every other that strikes."""
        dice = self._by_operation[operation]
        if not dice:
            return _CALM
        decisive: Decisive | None = None
        slow_ms = 0.0
        duplicated_ports = new_fields = False
        for die in dice:
            match die.fault:
                case Slow(latency_ms=(low, high)):
                    if die.strikes(location):
                        slow_ms += die.random.uniform(low, high)
                case DuplicatedPorts():
                    duplicated_ports |= die.strikes(location)
                case NewFields():
                    new_fields |= die.strikes(location)
                case fault:
                    if decisive is None and die.strikes(location):
                        decisive = fault
        return Fate(decisive, slow_ms, duplicated_ports, new_fields)
