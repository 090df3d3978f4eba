"""CPU of an allocation with two processes, beside one, and beside two services that share nothing: `python FILE`.

In turn: one process; two services of one process at the same time, each with a server, a provider and a bench of its
own; two processes of one service. Two over one tells what it costs in all; two over apart, what of it is the sharing:
the rest is what two busy processes cost each other on the cores of this machine, whatever they do. Nothing is pinned.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys

ROUNDS = int(os.environ.get("ROUNDS", "5"))
MATCHES = int(os.environ.get("MATCHES", "24000"))


async def cpu_ms(processes: int) -> float:
    """What a service of so many processes takes of workers' CPU for each allocation of a backlog."""
    words = ("bench", "--backlog", str(MATCHES), "--rounds", "2", "--no-pin", "--processes", str(processes), "--json")
    bench = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "allocator", *words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await bench.communicate()
    median: float = json.loads(out)["sides"]["allocator"]["median"]["worker_cpu_ms"]
    return median


async def main() -> None:
    """Rounds in turn, then the medians of their ratios."""
    over_one, over_apart = [], []
    for _ in range(ROUNDS):
        one = await cpu_ms(1)
        apart = statistics.mean(await asyncio.gather(cpu_ms(1), cpu_ms(1)))
        two = await cpu_ms(2)
        over_one.append(two / one)
        over_apart.append(two / apart)
        sys.stdout.write(f"one {one:.4f} ms, two services of one {apart:.4f} ms, two of one service {two:.4f} ms\n")
        sys.stdout.flush()
    sys.stdout.write(
        f"two over one {statistics.median(over_one):.2f}, two over two apart {statistics.median(over_apart):.2f}\n"
    )


if __name__ == "__main__":
    asyncio.run(main())
