"""What an allocation costs as things grow: what waits, the regions, the answers kept, the workers.

In: a setup, how large the largest is, and how often each size is measured. Out: a `GrowthReport`: a row for each size,
with the median cost of one allocation, and the bytes that one waiting match and one kept answer take in Redis. What
stays flat along a column costs the same at any size. Sizes take turns, so that what else the machine does falls on all.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from allocator.cli.bench.matchmaker import Matchmaker
from allocator.cli.bench.meters import redis_info
from allocator.cli.bench.plan import Backlog, Setup, Side, Waiting
from allocator.cli.bench.rig import Rig, fresh_keys
from allocator.cli.bench.rounds import Round, run_round, run_round_with

SERVED = 5_000
"""Matches served at each size."""
WAITING = (10, 1_000, 10_000)
"""And the largest."""
REGIONS = (1, 20, 200)
PROCESSES = (1, 4, 16)
KEPT_SHARE = 3
"""Of what waits at most, so many times fewer answers are kept at most: they have to be earned first."""
WEIGHED = 20_000
"""Waiting matches that are weighed in Redis."""


@dataclass(frozen=True, slots=True)
class Size:
    """The cost at one size of one thing, the median of all rounds; CPU in milliseconds for each allocation."""

    grows: str
    size: int
    allocations_per_second: float
    worker_cpu_ms: float | None
    redis_cpu_ms: float
    redis_commands: float
    worker_peak_mb: float | None

    @classmethod
    def of(cls, grows: str, size: int, measured: Sequence[Round]) -> Size:
        """What rounds have measured, at least one."""
        return cls(
            grows,
            size,
            statistics.median(each.allocations_per_second for each in measured),
            _median(each.worker_cpu_ms for each in measured),
            statistics.median(each.redis_cpu_ms for each in measured),
            statistics.median(each.redis_commands for each in measured),
            _median(each.worker_peak_mb for each in measured),
        )


@dataclass(frozen=True, slots=True)
class GrowthReport:
    """All sizes, and what Redis holds for one match."""

    sizes: tuple[Size, ...]
    bytes_per_waiting: float
    """In the stream, unread."""
    bytes_per_kept: float
    """The hash and the announcement."""
    complete: bool
    """Whether every match of every size was given a server."""

    def to_data(self) -> dict[str, Any]:
        """The whole of it for a program."""
        return asdict(self)


class Growth:
    """One run over all sizes."""

    def __init__(self, setup: Setup, *, largest: int, rounds: int, say: Callable[[str], None]) -> None:
        """`largest`: how many matches wait at most; `rounds`: how often each size is measured."""
        self._setup = setup
        self._largest = largest
        self._rounds = rounds
        self._say = say
        self._measured: defaultdict[tuple[str, int], list[Round]] = defaultdict(list)

    async def measure(self) -> GrowthReport:
        """Measure each size; some minutes for each round."""
        async with Rig(self._setup) as rig:
            per_waiting = await _weigh_waiting(rig)
            for _ in range(self._rounds):
                for waiting in sorted({*(each for each in WAITING if each < self._largest), self._largest}):
                    self._add("waiting", waiting, await run_round(rig, Side.ALLOCATOR, Waiting(waiting, SERVED)))
            per_kept = await self._with_answers_kept(rig)
        for _ in range(self._rounds):
            for regions in REGIONS:
                async with Rig(replace(self._setup, regions=regions)) as rig:
                    self._add("regions", regions, await run_round(rig, Side.ALLOCATOR, Backlog(SERVED)))
        for _ in range(self._rounds):
            for processes in PROCESSES:
                async with Rig(replace(self._setup, processes=processes)) as rig:
                    self._add("processes", processes, await run_round(rig, Side.ALLOCATOR, _for_all(processes)))
        sizes = (Size.of(grows, size, measured) for (grows, size), measured in self._measured.items())
        every = (each for measured in self._measured.values() for each in measured)
        complete = not any(each.unanswered or each.ended_otherwise for each in every)
        return GrowthReport(tuple(sizes), per_waiting, per_kept, complete)

    async def _with_answers_kept(self, rig: Rig) -> float:
        """Serve the same namespace again and again; the bytes that one answer takes."""
        keys = fresh_keys()
        before = await _used_bytes(rig)
        kept = 0
        try:
            for size in (0, self._largest // KEPT_SHARE):
                if size > kept:
                    await run_round_with(keys, rig, Side.ALLOCATOR, Backlog(size - kept))
                    kept = size
                for _ in range(self._rounds):
                    measured = await run_round_with(keys, rig, Side.ALLOCATOR, Backlog(SERVED))
                    self._add("answers kept", size, measured)
                    kept += SERVED
            return (await _used_bytes(rig) - before) / kept
        finally:
            await asyncio.shield(rig.forget(keys))

    def _add(self, grows: str, size: int, measured: Round) -> None:
        self._measured[grows, size].append(measured)
        cpu = "" if measured.worker_cpu_ms is None else f", {measured.worker_cpu_ms:.3f} ms of worker CPU each"
        self._say(f"{grows} {size:,}: {measured.allocations_per_second:,.0f}/s{cpu}")


def _for_all(processes: int) -> Backlog:
    """A backlog of which they do not hold all from the first moment on."""
    return Backlog(SERVED * max(1, processes // 4))


def show_growth(report: GrowthReport, console: Console) -> None:
    """Print it as a table."""
    table = Table(title=f"the cost of one allocation; at least {SERVED:,} served at each size", title_justify="left")
    for name in ("grows", "size", "a second", "worker CPU ms", "Redis CPU ms", "Redis commands", "worker peak MB"):
        table.add_column(name, justify="left" if name == "grows" else "right")
    for each in report.sizes:
        table.add_row(
            each.grows,
            f"{each.size:,}",
            f"{each.allocations_per_second:,.0f}",
            "-" if each.worker_cpu_ms is None else f"{each.worker_cpu_ms:.3f}",
            f"{each.redis_cpu_ms:.3f}",
            f"{each.redis_commands:.2f}",
            "-" if each.worker_peak_mb is None else f"{each.worker_peak_mb:.0f}",
        )
    console.print(table)
    console.print(f"in Redis: {report.bytes_per_waiting:,.0f} bytes for a match that waits unread")
    console.print(f"          {report.bytes_per_kept:,.0f} bytes for an answer kept, with its announcement")


async def _weigh_waiting(rig: Rig) -> float:
    """The bytes that one match takes in its stream."""
    keys = fresh_keys()
    before = await _used_bytes(rig)
    try:
        await Matchmaker(rig.connection, keys, rig.setup.region_names(), Backlog(WEIGHED)).send()
        return (await _used_bytes(rig) - before) / WEIGHED
    finally:
        await asyncio.shield(rig.forget(keys))


def _median(measured: Iterable[float | None]) -> float | None:
    known = [each for each in measured if each is not None]
    return statistics.median(known) if known else None


async def _used_bytes(rig: Rig) -> int:
    return int((await redis_info(rig.connection))["used_memory"])
