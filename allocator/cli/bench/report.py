"""Rounds in numbers: medians, ratios, JSON.

In: rounds of one side or two, in the order they ran. Out: a `Report`. A ratio is that of a pair, the allocator's round
over the bare loop's after it, or the traced one's over the allocator's before it, so that what changes on the machine
meanwhile weighs on both; of the pairs the median counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from allocator.cli.bench.plan import Backlog, Load, OpenLoop, Setup, Side, Waiting
from allocator.cli.bench.rounds import Percentiles, Round

NUMBERS = (
    "allocations_per_second",
    "worker_cpu_ms",
    "redis_cpu_ms",
    "provider_cpu_ms",
    "bench_cpu_ms",
    "others_cores",
    "redis_commands",
    "redis_scripts",
    "worker_peak_mb",
)
"""Fields of a round with a median, and a ratio where both sides have them."""
LATENCIES = ("added_ms", "less_calls_ms", "sent_late_ms")
_PLOTTED = ("added_all_ms", "answered_in_slices")

Medians = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """All that a bench has found."""

    load: Load
    setup: Setup
    machine: Mapping[str, Any]
    rounds: tuple[Round, ...]

    def of(self, side: Side) -> list[Round]:
        """One side's rounds, in order."""
        return [each for each in self.rounds if each.side is side]

    @property
    def complete(self) -> bool:
        """Whether every match of every round was given a server."""
        return bool(self.rounds) and not any(each.unanswered or each.ended_otherwise for each in self.rounds)

    def medians(self, side: Side) -> Medians:
        """The median of each number over the rounds; None where a round lacks it."""
        rounds = self.of(side)
        medians: Medians = {name: _median([getattr(each, name) for each in rounds]) for name in NUMBERS}
        for name in LATENCIES:
            found: list[Percentiles | None] = [getattr(each, name) for each in rounds]
            known = [asdict(each) for each in found if each is not None]
            medians[name] = {key: _median([each[key] for each in known]) for key in known[0]} if known else None
        return medians

    def ratios(self) -> dict[str, dict[str, Any]]:
        """Allocator over bare loop, or traced over untraced, by number: the median of the pairs, and each pair."""
        above, below = (Side.TRACED, Side.ALLOCATOR) if self.of(Side.TRACED) else (Side.ALLOCATOR, Side.BARE)
        pairs = list(zip(self.of(above), self.of(below), strict=False))
        ratios = {}
        for name in NUMBERS:
            each = [_ratio(getattr(one, name), getattr(other, name)) for one, other in pairs]
            ratios[name] = {"median": _median(each), "pairs": each}
        return ratios

    def to_data(self) -> dict[str, Any]:
        """The whole report for a program. Costs are milliseconds of CPU, and commands, for each allocation."""
        setup = {name: value for name, value in asdict(self.setup).items() if name != "redis_url"}  # holds a password
        data: dict[str, Any] = {
            "load": {"kind": load_kind(self.load), **asdict(self.load)},
            "setup": setup,
            "machine": dict(self.machine),
            "complete": self.complete,
            "sides": {
                side.value: {"median": self.medians(side), "rounds": [without_plots(each) for each in self.of(side)]}
                for side in Side
                if self.of(side)
            },
        }
        if self.of(Side.BARE) or self.of(Side.TRACED):
            data["ratios"] = self.ratios()
        return data


def load_kind(load: Load) -> str:
    """How matches arrive, in a word."""
    match load:
        case OpenLoop():
            return "open_loop"
        case Backlog():
            return "backlog"
        case Waiting():
            return "waiting"


def without_plots(each: Round) -> dict[str, Any]:
    """A round for a program."""
    return {name: value for name, value in asdict(each).items() if name not in _PLOTTED}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def _ratio(ours: float | None, bare: float | None) -> float | None:
    return None if ours is None or not bare else ours / bare
