"""What rate of arrivals a fleet keeps up with on this machine, and how long a match takes at half of it.

In: a setup, how long each rate is kept up, how often all of it is done. Out: a `CapacityReport`. A fleet keeps up with
a rate while it serves 99 of 100 that come, so that no queue grows. It keeps up with no more than a backlog drains at,
where a round trip serves most; so the rate is sought between nothing and that, by halving what is left. Half of it is
measured at once after it, since a machine's speed may change from one minute to the next.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from allocator.cli.bench.plan import Arrivals, Backlog, OpenLoop, Setup, Side
from allocator.cli.bench.report import without_plots
from allocator.cli.bench.rig import Rig
from allocator.cli.bench.rounds import BEHIND_MAX, Percentiles, Round, run_round
from allocator.cli.bench.screen import progress
from allocator.cli.stage import StageError

HALVINGS = 5
"""So often the span is halved: the answer is that of a thirty-second of the drain's rate."""


@dataclass(frozen=True, slots=True)
class Found:
    """One search and what followed; rates in matches a second."""

    drained: float
    """Of a backlog."""
    capacity: float
    half: Round
    """At half of the capacity."""
    latencies: Mapping[str, Percentiles]
    """What is added there, and the same less the calls' own time."""


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """All rounds, at least one."""

    rounds: tuple[Found, ...]

    @property
    def complete(self) -> bool:
        """Whether every match at half of the capacity was given a server."""
        return not any(each.half.unanswered or each.half.ended_otherwise for each in self.rounds)

    def median(self) -> dict[str, Any]:
        """The median of each number over the rounds."""
        cpu = [each.half.worker_cpu_ms for each in self.rounds if each.half.worker_cpu_ms is not None]
        return {
            "drained_per_second": statistics.median(each.drained for each in self.rounds),
            "capacity_per_second": statistics.median(each.capacity for each in self.rounds),
            **{name: self._median_of(name) for name in self.rounds[0].latencies},
            "worker_cpu_ms": statistics.median(cpu) if cpu else None,
        }

    def _median_of(self, name: str) -> dict[str, float]:
        found = [asdict(each.latencies[name]) for each in self.rounds]
        return {share: statistics.median(each[share] for each in found) for share in found[0]}

    def to_data(self) -> dict[str, Any]:
        """The whole of it for a program; latencies and costs are those at half of the capacity."""
        rounds = [
            {
                "drained_per_second": each.drained,
                "capacity_per_second": each.capacity,
                "half": without_plots(each.half),
            }
            for each in self.rounds
        ]
        return {"complete": self.complete, "median": self.median(), "rounds": rounds}


@dataclass(frozen=True, slots=True)
class Capacity:
    """One run of so many rounds."""

    setup: Setup
    backlog: int
    """How many are drained first."""
    seconds: float
    """How long each rate is kept up."""
    arrivals: Arrivals
    seed: int
    rounds: int
    say: Callable[[str], None]

    async def measure(self) -> CapacityReport:
        """Search and measure. StageError: a process did not start, or there is no rate that is kept up with."""
        async with Rig(self.setup) as rig:
            return CapacityReport(tuple([await self._round(rig) for _ in range(self.rounds)]))

    async def _round(self, rig: Rig) -> Found:
        async def at(rate: float) -> Round:
            found = await run_round(rig, Side.ALLOCATOR, OpenLoop(rate, self.seconds, self.arrivals, self.seed))
            behind = "" if found.falls_behind <= BEHIND_MAX else f", falls behind by {found.falls_behind:.0%}"
            self.say(progress(found) + behind)
            return found

        async def keeps_up(rate: float) -> bool:
            # what else runs here may spoil one round, and every later halving stands on this one
            return (await at(rate)).falls_behind <= BEHIND_MAX or (await at(rate)).falls_behind <= BEHIND_MAX

        drain = await run_round(rig, Side.ALLOCATOR, Backlog(self.backlog))
        self.say(f"{progress(drain)}, of a backlog")
        capacity = await highest(drain.allocations_per_second, keeps_up)
        if capacity == 0:
            raise StageError("no rate was kept up with: look what else runs on this machine, or take more --seconds")
        self.say(f"keeps up with {capacity:,.0f} a second; at half of it:")
        half = await at(capacity / 2)
        if half.added_ms is None or half.less_calls_ms is None:
            raise StageError("at half of what was kept up with no match had its answer: look what else runs here")
        latencies = {"added_ms": half.added_ms, "less_calls_ms": half.less_calls_ms}
        return Found(drain.allocations_per_second, capacity, half, latencies)


async def highest(limit: float, keeps_up: Callable[[float], Awaitable[bool]]) -> float:
    """The highest rate under the limit that is kept up with, as far as some halvings tell; 0 where none was."""
    low, high = 0.0, limit
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if await keeps_up(middle):
            low = middle
        else:
            high = middle
    return low


def show_capacity(report: CapacityReport, console: Console) -> None:
    """Print it as a table."""
    table = Table(title="what the workers keep up with, and the ms they add at half of it", title_justify="left")
    for name in ("", "drained a second", "keeps up with", "p50", "p99", "less the calls p50", "p99", "worker CPU ms"):
        table.add_column(name, justify="right")
    for number, each in enumerate(report.rounds, start=1):
        table.add_row(f"round {number}", *_cells(CapacityReport((each,)).median()))
    if len(report.rounds) > 1:
        table.add_row("median", *_cells(report.median()))
    console.print(table)


def _cells(median: dict[str, Any]) -> list[str]:
    cpu_ms = median["worker_cpu_ms"]
    return [
        f"{median['drained_per_second']:,.0f}",
        f"{median['capacity_per_second']:,.0f}",
        *(f"{median[name][share]:.2f}" for name in ("added_ms", "less_calls_ms") for share in ("p50", "p99")),
        "-" if cpu_ms is None else f"{cpu_ms:.3f}",
    ]
