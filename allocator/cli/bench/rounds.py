"""One round: a fleet is started, a load is sent, and what it cost is read off; and rounds in turn.

In: a rig, a side, a load. Out: a `Round`. The first tenth of the answers warms up and is not counted; a backlog is sent
while those who are to drain it stand still. A round ends at its last answer, or when its patience does, and then says
how many were left without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from allocator.cli.bench.matchmaker import Matchmaker
from allocator.cli.bench.meters import Reading, peak_mb, read_meters
from allocator.cli.bench.plan import Backlog, Load, OpenLoop, Side, Waiting
from allocator.cli.bench.rig import Fleet, Rig, fresh_keys
from allocator.cli.stage import StageError
from allocator.contract.keys import Keys


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds that a share of the matches stayed under."""

    p50: float
    p99: float
    p999: float
    longest: float


@dataclass(frozen=True, slots=True)
class Round:
    """What one side made of a load. Costs are for each allocation counted; None: not to be had here."""

    side: Side
    allocated: int
    ended_otherwise: int
    unanswered: int
    counted: int
    seconds: float
    allocations_per_second: float
    added_ms: Percentiles | None
    """Moment it was to be sent to answer read, less the provider's latency; None for what waits in a backlog."""
    less_calls_ms: Percentiles | None
    """The same less the calls' own time as the worker saw it, of those whose announcements were kept."""
    sent_late_ms: Percentiles
    """How late the bench was; included in `added_ms`."""
    falls_behind: float
    """Of what came in an open loop, the share that was left for later; 0 for any other load. See `falls_behind`."""
    worker_cpu_ms: float | None
    provider_cpu_ms: float | None
    bench_cpu_ms: float
    redis_cpu_ms: float
    others_cores: float | None
    """How many cores' worth of time went to what is no part of the bench: near 0 on a quiet machine."""
    redis_commands: float
    """Without those of the bench."""
    redis_scripts: float
    worker_peak_mb: float | None
    """Of the largest process."""
    added_all_ms: tuple[float, ...]
    """Each match, sorted; for the plot."""
    answered_in_slices: tuple[int, ...]
    """Answers in each fortieth of the round; for the plot."""


SLICES = 40
BEHIND_MAX = 0.01
"""A rate is kept up with where no larger share of what comes is left for later."""
SOON_SECONDS = 0.1
"""Who came so shortly before the end of the load may have its answer after it."""


async def in_turn(
    rig: Rig, load: Load, sides: Sequence[Side], rounds: int, stop: asyncio.Event
) -> AsyncIterator[Round]:
    """Rounds A B A B, until there were so many of each or `stop` is set."""
    for _ in range(rounds):
        for side in sides:
            measuring = asyncio.get_running_loop().create_task(run_round(rig, side, load))
            stopped = asyncio.get_running_loop().create_task(stop.wait())
            try:
                await asyncio.wait([measuring, stopped], return_when=asyncio.FIRST_COMPLETED)
                if not measuring.done():
                    return
                yield await measuring
            finally:
                for task in (measuring, stopped):
                    task.cancel()
                await asyncio.gather(measuring, stopped, return_exceptions=True)


async def run_round(rig: Rig, side: Side, load: Load) -> Round:
    """Measure one side with keys of its own. StageError: something did not start, or ended too early."""
    keys = fresh_keys()
    try:
        return await run_round_with(keys, rig, side, load)
    finally:
        await asyncio.shield(rig.forget(keys))


async def run_round_with(keys: Keys, rig: Rig, side: Side, load: Load) -> Round:
    """Measure one side with these keys, which may hold what other rounds have left, and leave them."""
    matchmaker = Matchmaker(rig.connection, keys, rig.setup.region_names(), load)
    await matchmaker.open()
    await matchmaker.fill()
    async with rig.fleet(side, keys) as fleet:
        async with _running(matchmaker, fleet) as (sending, failed):
            measuring = asyncio.get_running_loop().create_task(_measure(rig, fleet, matchmaker, sending))
            try:
                await asyncio.wait([measuring, *failed], return_when=asyncio.FIRST_COMPLETED)
                for number, each in enumerate(failed):
                    if each.done() and not measuring.done():
                        each.result()
                        why = rig.last_words(f"{fleet.keys.namespace}-{number - 1}")
                        raise StageError(f"a process of the {side.value} side ended in the middle of its round; {why}")
                started, ended = await measuring
            finally:
                measuring.cancel()
                await asyncio.gather(measuring, return_exceptions=True)
        return _round(rig, fleet, matchmaker, started, ended)


@contextlib.asynccontextmanager
async def _running(
    matchmaker: Matchmaker, fleet: Fleet
) -> AsyncIterator[tuple[asyncio.Task[None], list[asyncio.Task[Any]]]]:
    """The sender, and what must not end before the round does: the reader and the processes."""
    loop = asyncio.get_running_loop()
    sending = loop.create_task(_send(matchmaker, fleet))
    failed: list[asyncio.Task[Any]] = [loop.create_task(matchmaker.read())]
    failed += [loop.create_task(process.wait()) for process in fleet.processes]
    try:
        yield sending, failed
    finally:
        for task in (sending, *failed):
            task.cancel()
        await asyncio.gather(sending, *failed, return_exceptions=True)


async def _send(matchmaker: Matchmaker, fleet: Fleet) -> None:
    if not isinstance(matchmaker.load, Backlog):
        await matchmaker.send()
        return
    fleet.signal(signal.SIGSTOP)
    try:
        await matchmaker.send()
    finally:
        fleet.signal(signal.SIGCONT)


async def _measure(
    rig: Rig, fleet: Fleet, matchmaker: Matchmaker, sending: asyncio.Task[None]
) -> tuple[Reading, Reading]:
    """The meters once warm and at the end."""
    load = matchmaker.load
    if isinstance(load, Backlog):
        await sending
    started: Reading | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(rig.setup.patience_seconds + (load.seconds if isinstance(load, OpenLoop) else 0)):
            await matchmaker.until_answered(matchmaker.warm)
            started = await _read(rig, fleet, matchmaker)
            if not isinstance(load, Waiting):
                await sending
            await matchmaker.until_answered(matchmaker.wanted)
            return started, await _read(rig, fleet, matchmaker)
    if started is None:
        raise StageError(
            f"only {matchmaker.answered} answers in {rig.setup.patience_seconds:g} s on the {fleet.side.value} side; "
            f"take a smaller load, or more --patience-seconds"
        )
    return started, await _read(rig, fleet, matchmaker)


async def _read(rig: Rig, fleet: Fleet, matchmaker: Matchmaker) -> Reading:
    return await read_meters(
        rig.connection,
        at=asyncio.get_running_loop().time(),
        answered=matchmaker.answered,
        own_commands=matchmaker.commands,
        workers=[process.pid for process in fleet.processes],
        provider=rig.provider.pid,
    )


def _round(rig: Rig, fleet: Fleet, matchmaker: Matchmaker, started: Reading, ended: Reading) -> Round:
    is_open_loop = isinstance(matchmaker.load, OpenLoop)
    counted = max(1, ended.answered - started.answered)
    seconds = max(1e-6, ended.at - started.at)
    added = _added_ms(matchmaker, rig.setup.provider_latency_ms) if is_open_loop else []
    peaks = [peak for process in fleet.processes if (peak := peak_mb(process.pid)) is not None]
    return Round(
        side=fleet.side,
        allocated=matchmaker.states["allocated"],
        ended_otherwise=matchmaker.answered - matchmaker.states["allocated"],
        unanswered=max(0, matchmaker.wanted - matchmaker.answered),
        counted=counted,
        seconds=seconds,
        allocations_per_second=counted / seconds,
        added_ms=percentiles(added) if added else None,
        less_calls_ms=_less_calls_ms(matchmaker) if is_open_loop else None,
        sent_late_ms=percentiles(sorted(1000 * late for late in matchmaker.lateness_seconds)),
        falls_behind=_falls_behind(matchmaker, rig.setup.provider_latency_ms) if is_open_loop else 0.0,
        worker_cpu_ms=_each_ms(started.workers_cpu_seconds, ended.workers_cpu_seconds, counted),
        provider_cpu_ms=_each_ms(started.provider_cpu_seconds, ended.provider_cpu_seconds, counted),
        bench_cpu_ms=1000 * (ended.bench_cpu_seconds - started.bench_cpu_seconds) / counted,
        redis_cpu_ms=1000 * (ended.redis_cpu_seconds - started.redis_cpu_seconds) / counted,
        others_cores=_others_cores(started, ended),
        redis_commands=(ended.redis_commands - started.redis_commands - ended.own_commands + started.own_commands)
        / counted,
        redis_scripts=(ended.redis_scripts - started.redis_scripts) / counted,
        worker_peak_mb=max(peaks, default=None),
        added_all_ms=tuple(added),
        answered_in_slices=_slices([at for at in matchmaker.answered_at if at]),
    )


def percentiles(ordered: Sequence[float]) -> Percentiles:
    """Of numbers in ascending order, at least one."""

    def under(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Percentiles(under(0.5), under(0.99), under(0.999), ordered[-1])


def _added_ms(matchmaker: Matchmaker, provider_ms: float) -> list[float]:
    pairs = zip(matchmaker.due_at, matchmaker.answered_at, strict=True)
    since = matchmaker.warm
    return sorted(1000 * (read - due) - provider_ms for due, read in list(pairs)[since:] if read)


def _falls_behind(matchmaker: Matchmaker, provider_ms: float) -> float:
    due_at, answered_at = matchmaker.due_at, matchmaker.answered_at
    return max(falls_behind(due_at, answered_at), left_over(due_at, answered_at, SOON_SECONDS + provider_ms / 1000))


def left_over(due_at: Sequence[float], answered_at: Sequence[float], soon_seconds: float) -> float:
    """Of those that came before the last moment of the load, the share without an answer by its end."""
    end = due_at[-1]
    early = [read for due, read in zip(due_at, answered_at, strict=True) if due <= end - soon_seconds]
    return sum(not read or read > end for read in early) / len(early) if early else 0.0


def falls_behind(due_at: Sequence[float], answered_at: Sequence[float]) -> float:
    """How much faster answers fall back than time goes on, from the third quarter to the last; 0 where they do not."""
    half, quarter = len(due_at) // 2, len(due_at) // 4
    if not all(answered_at[half:]):
        return 1.0
    if quarter == 0:
        return 0.0
    third, last = slice(half, -quarter), slice(-quarter, None)
    waits = [
        statistics.median(read - due for due, read in zip(due_at[each], answered_at[each], strict=True))
        for each in (third, last)
    ]
    passed = statistics.median(due_at[last]) - statistics.median(due_at[third])
    return max(0.0, (waits[1] - waits[0]) / passed) if passed > 0 else 0.0


def _less_calls_ms(matchmaker: Matchmaker) -> Percentiles | None:
    added = []
    for number, event in matchmaker.events:
        data = json.loads(event)["data"]
        total_ms = 1000 * (matchmaker.answered_at[number] - matchmaker.due_at[number])
        added.append(total_ms - sum(attempt["duration_ms"] for attempt in data.get("attempts", ())))
    return percentiles(sorted(added)) if added else None


def _each_ms(before: float | None, after: float | None, counted: int) -> float | None:
    return None if before is None or after is None else 1000 * (after - before) / counted


def _others_cores(started: Reading, ended: Reading) -> float | None:
    used = [_used(reading) for reading in (started, ended)]
    if used[0] is None or used[1] is None:
        return None
    return max(0.0, (used[1] - used[0]) / max(1e-6, ended.at - started.at))


def _used(reading: Reading) -> float | None:
    """CPU of this machine that no process of the bench has used. A Redis elsewhere makes it too small."""
    if reading.machine_cpu_seconds is None or reading.workers_cpu_seconds is None:
        return None
    ours = reading.workers_cpu_seconds + reading.bench_cpu_seconds + reading.redis_cpu_seconds
    return reading.machine_cpu_seconds - ours - (reading.provider_cpu_seconds or 0.0)


def _slices(moments: Sequence[float]) -> tuple[int, ...]:
    first, last = min(moments), max(moments)
    width = max(1e-6, (last - first) / SLICES)
    counts = [0] * SLICES
    for moment in moments:
        counts[min(SLICES - 1, int((moment - first) / width))] += 1
    return tuple(counts)
