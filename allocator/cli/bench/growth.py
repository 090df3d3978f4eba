"""What an allocation costs as things grow: what waits, the regions, the answers kept, the workers.

In: a setup, and how large the largest is. Out: a `GrowthReport`: a row for each size, with the cost of one allocation,
and the bytes that one waiting match and one kept answer take in Redis. What stays flat along a column costs the same at
any size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from allocator.cli.bench.matchmaker import Matchmaker
from allocator.cli.bench.meters import redis_info
from allocator.cli.bench.plan import Backlog, Setup, Side, Waiting
from allocator.cli.bench.rig import Rig, fresh_keys
from allocator.cli.bench.rounds import Round, run_round

SERVED = 5_000
"""Matches served at each size."""
WAITING = (10, 1_000)
"""And then the largest."""
REGIONS = (1, 20, 200)
PROCESSES = (1, 4, 16)
KEPT_SHARE = 3
"""Of what waits at most, so many times fewer answers are kept at most: they have to be earned first."""
WEIGHED = 20_000
"""Waiting matches that are weighed in Redis."""


@dataclass(frozen=True, slots=True)
class Size:
    """The cost at one size of one thing; CPU in milliseconds for each allocation."""

    grows: str
    size: int
    allocations_per_second: float
    worker_cpu_ms: float | None
    redis_cpu_ms: float
    redis_commands: float
    worker_peak_mb: float | None

    @classmethod
    def of(cls, grows: str, size: int, measured: Round) -> Size:
        """What a round has measured."""
        return cls(
            grows,
            size,
            measured.allocations_per_second,
            measured.worker_cpu_ms,
            measured.redis_cpu_ms,
            measured.redis_commands,
            measured.worker_peak_mb,
        )


@dataclass(frozen=True, slots=True)
class GrowthReport:
    """All sizes, and what Redis holds for one match."""

    sizes: tuple[Size, ...]
    bytes_per_waiting: float
    """In the stream, unread."""
    bytes_per_kept: float
    """The hash and the announcement."""

    def to_data(self) -> dict[str, Any]:
        """The whole of it for a program."""
        return asdict(self)


class Growth:
    """One run over all sizes."""

    def __init__(self, setup: Setup, *, largest: int, say: Callable[[str], None]) -> None:
        """`largest`: how many matches wait at most."""
        self._setup = setup
        self._largest = largest
        self._say = say
        self._sizes: list[Size] = []

    async def measure(self) -> GrowthReport:
        """Measure each size once; some minutes."""
        async with Rig(self._setup) as rig:
            per_waiting = await _weigh_waiting(rig)
            for waiting in (*WAITING, self._largest):
                self._add("waiting", waiting, await run_round(rig, Side.ALLOCATOR, Waiting(waiting, SERVED)))
            per_kept = await self._with_answers_kept(rig)
        for regions in REGIONS:
            async with Rig(replace(self._setup, regions=regions)) as rig:
                self._add("regions", regions, await run_round(rig, Side.ALLOCATOR, Backlog(SERVED)))
        for processes in PROCESSES:
            async with Rig(replace(self._setup, processes=processes)) as rig:
                self._add("processes", processes, await run_round(rig, Side.ALLOCATOR, Backlog(SERVED)))
        return GrowthReport(tuple(self._sizes), per_waiting, per_kept)

    async def _with_answers_kept(self, rig: Rig) -> float:
        """Serve the same namespace again and again; the bytes that one answer takes."""
        keys = fresh_keys()
        before = await _used_bytes(rig)
        kept = 0
        try:
            for size in (0, self._largest // KEPT_SHARE):
                if size > kept:
                    await run_round(rig, Side.ALLOCATOR, Backlog(size - kept), keys=keys)
                    kept = size
                measured = await run_round(rig, Side.ALLOCATOR, Backlog(SERVED), keys=keys)
                self._add("answers kept", size, measured)
                kept += SERVED
            return (await _used_bytes(rig) - before) / kept
        finally:
            await asyncio.shield(rig.forget(keys))

    def _add(self, grows: str, size: int, measured: Round) -> None:
        found = Size.of(grows, size, measured)
        self._sizes.append(found)
        cpu = "" if found.worker_cpu_ms is None else f", {found.worker_cpu_ms:.3f} ms of worker CPU each"
        self._say(f"{grows} {size:,}: {found.allocations_per_second:,.0f}/s{cpu}")


def show_growth(report: GrowthReport, console: Console) -> None:
    """Print it as a table."""
    table = Table(title=f"the cost of one allocation; {SERVED:,} served at each size", title_justify="left")
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


async def _used_bytes(rig: Rig) -> int:
    return int((await redis_info(rig.connection))["used_memory"])
