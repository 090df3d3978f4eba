"""The allocator beside BullMQ with undici, in turn: `python tests/bench/compare_bullmq.py DIRECTORY`.

DIRECTORY is where somebody has run `npm install bullmq ioredis undici`; nothing is installed here. The same stub, the
same server, one process each on a core of its own where there are two.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from allocator.redis_io.embedded import EmbeddedServer

AT_ONCE, ROUNDS = 256, 5
MATCHES = int(os.environ.get("MATCHES", "10000"))
HERE = Path(__file__).parent


async def bullmq(modules: Path) -> dict[str, Any]:
    """One round of BullMQ: what its worker says of itself."""
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    with tempfile.TemporaryDirectory() as directory:
        server = await EmbeddedServer.acquire(Path(directory) / "redis")
        stub = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "allocator.cli.bench.stub", "0"), stdout=asyncio.subprocess.PIPE
        )
        try:
            if len(cores) > 1:
                os.sched_setaffinity(stub.pid, cores[:-1])
            assert stub.stdout is not None
            url = (await stub.stdout.readline()).decode().strip()
            words = ("node", str(HERE / "bullmq_worker.mjs"), str(urlsplit(server.url).port), url)
            worker = await asyncio.create_subprocess_exec(
                *words, str(MATCHES), str(AT_ONCE), cwd=modules, stdout=asyncio.subprocess.PIPE
            )
            if len(cores) > 1:
                os.sched_setaffinity(worker.pid, cores[-1:])
            assert worker.stdout is not None
            said: dict[str, Any] = json.loads(await worker.stdout.readline())
            await worker.wait()
            return said
        finally:
            stub.terminate()
            await stub.wait()
            await server.release()


async def allocator() -> dict[str, Any]:
    """One round of ours, as `allocator bench` tells it."""
    words = ("bench", "--backlog", str(MATCHES), "--in-flight", str(AT_ONCE), "--json")
    bench = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "allocator", *words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await bench.communicate()
    median: dict[str, Any] = json.loads(out)["sides"]["allocator"]["median"]
    return median


async def main(modules: Path) -> None:
    """Rounds in turn, then the medians."""
    pairs = []
    for _ in range(ROUNDS):
        pairs.append((await allocator(), await bullmq(modules)))
        ours, theirs = pairs[-1]
        sys.stdout.write(
            f"allocator {ours['allocations_per_second']:,.0f}/s, {ours['worker_cpu_ms']:.3f} ms; "
            f"bullmq {theirs['allocations_per_second']:,.0f}/s, {theirs['worker_cpu_ms']:.3f} ms\n"
        )
    ratio = statistics.median(a["allocations_per_second"] / b["allocations_per_second"] for a, b in pairs)
    sys.stdout.write(f"allocator over bullmq, median of {ROUNDS} pairs: {ratio:.2f}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
