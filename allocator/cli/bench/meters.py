"""What processes and Redis have used up to a moment.

In: process ids, a connection. Out: a `Reading`; two of them make the cost of what lies between. CPU and memory of a
process come from /proc (hundredths of a second), those of Redis from its INFO; what a platform does not tell is None.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.server import parse_info

_SCRIPT_CALLS = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_fcall")


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds of CPU, and counts, since each began."""

    at: float
    """On the monotonic clock."""
    answered: int
    workers_cpu_seconds: float | None
    provider_cpu_seconds: float | None
    bench_cpu_seconds: float
    machine_cpu_seconds: float | None
    """Of all cores and all processes."""
    redis_cpu_seconds: float
    redis_commands: int
    """Those within scripts count too."""
    redis_scripts: int
    own_commands: int
    """Those of them that the bench has sent."""


async def read_meters(
    connection: RedisConnection, *, at: float, answered: int, own_commands: int, workers: Sequence[int], provider: int
) -> Reading:
    """Read all of them, those of the processes first."""
    cpu = [cpu_seconds(process) for process in workers]
    known = [each for each in cpu if each is not None]
    workers_cpu = sum(known) if len(known) == len(cpu) else None
    provider_cpu, bench_cpu = cpu_seconds(provider), time.process_time()
    machine_cpu = machine_cpu_seconds()
    info = await redis_info(connection)
    return Reading(
        at=at,
        answered=answered,
        workers_cpu_seconds=workers_cpu,
        provider_cpu_seconds=provider_cpu,
        bench_cpu_seconds=bench_cpu,
        machine_cpu_seconds=machine_cpu,
        redis_cpu_seconds=float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
        redis_commands=int(info["total_commands_processed"]),
        redis_scripts=sum(_calls(info.get(name, "")) for name in _SCRIPT_CALLS),
        own_commands=own_commands,
    )


async def redis_info(connection: RedisConnection) -> dict[str, str]:
    """All of INFO, the calls of each command too."""
    replies = await connection.execute_many((("INFO",), ("INFO", "commandstats")))
    return {name: value for reply in replies for name, value in parse_info(reply).items()}


def cpu_seconds(process: int) -> float | None:
    """What this process has used, in the kernel too."""
    try:
        # The name in brackets may hold blanks.
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_seconds() -> float | None:
    """What all processes of this machine have used since it started, and what its host kept from it."""
    try:
        first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in first[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def peak_mb(process: int) -> float | None:
    """The most memory that this process has had resident."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else None


def _calls(stat: str) -> int:
    """The calls in `calls=3,usec=12,...`."""
    found = re.match(r"calls=(\d+)", stat)
    return int(found[1]) if found else 0
