"""How much one server takes, and how much partitions over the nodes of a cluster take: `python -m tests.cluster`.

In: how many matches, worker processes, nodes, partitions, rounds. Out: a line for each round: matches a second from the
first end to the last, by the clock of Redis, all sent at once and served by a provider that costs next to nothing; and
what a match cost the busiest server, which is what bounds a fleet with processors enough. The two sides take turns, so
that what else the machine does falls on both. To be run by hand, on a machine of one's own.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from allocator.client import AllocatorClient
from allocator.contract.partitions import Partitions
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.embedded import server_binary
from allocator.redis_io.server import parse_info
from tests.cluster.estate import TestCluster
from tests.conftest import TestServer
from tests.crash.fleet import Fleet, start

SECONDS_MAX = 120.0
PROVIDER_LATENCY_MS = "20"
NOWHERE = "redis://127.0.0.1:1"
"""A fleet looks at one server by itself; here nobody asks it to."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What all rounds share."""

    asked: argparse.Namespace
    provider: str
    directory: Path


async def measured(stage: Stage, url: str, partitions: Partitions) -> tuple[float, float]:
    """Serve one round in a namespace of its own: matches a second, and microseconds of the busiest server for each."""
    asked, name, count = stage.asked, partitions.namespace, partitions.count
    settings = (
        f"partitions={count}",
        "region_defaults.rate=100000",
        "region_defaults.burst=1000",
        "worker.lease_seconds=10",
    )
    async with (
        Fleet(
            name, stage.directory, url, stage.provider, settings=settings, lease_seconds=10, watch_url=NOWHERE
        ) as fleet,
        AllocatorClient(url, name, count) as client,
        await connect(url, name="measure") as connection,
    ):
        await asyncio.gather(*(fleet.worker() for _ in range(asked.processes)))
        before = await busy_seconds(connection)
        requests = ({"id": f"m-{each}", "image": "g", "regions": ["europe"]} for each in range(asked.matches))
        await asyncio.gather(*(client.submit(each) for each in requests))
        async with asyncio.timeout(SECONDS_MAX):
            while sum(await ended(connection, partitions)) < asked.matches:  # noqa: ASYNC110 - other processes' doing
                await asyncio.sleep(0.1)
        after = await busy_seconds(connection)
        busiest = max(now - then for then, now in zip(before, after, strict=True))
        return asked.matches / await span_seconds(connection, partitions), busiest / asked.matches * 1e6


async def busy_seconds(connection: RedisConnection) -> list[float]:
    """The processor time that each server has used."""
    facts = [parse_info(await server.execute("INFO", "cpu")) for server in await connection.servers()]
    return [float(each["used_cpu_user"]) + float(each["used_cpu_sys"]) for each in facts]


async def ended(connection: RedisConnection, partitions: Partitions) -> list[int]:
    return await connection.execute_many([("XLEN", keys.results) for keys in partitions.every])


async def span_seconds(connection: RedisConnection, partitions: Partitions) -> float:
    """From the first end to the last."""
    ends = [("XRANGE", keys.results, "-", "+", "COUNT", 1) for keys in partitions.every]
    ends += [("XREVRANGE", keys.results, "+", "-", "COUNT", 1) for keys in partitions.every]
    moments = [int(found[0][0].partition(b"-")[0]) for found in await connection.execute_many(ends) if found]
    return (max(moments) - min(moments)) / 1000


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        lone = TestServer("valkey", server_binary(), directory)
        cluster = TestCluster("valkey", server_binary(), directory / "cluster", primaries=asked.nodes)
        provider = await start("provider", directory, "allocator.cli.bench.stub", PROVIDER_LATENCY_MS)
        try:
            stage = Stage(asked, await provider.first_line(), directory)
            lone.start()
            cluster.start()
            found: dict[str, list[float]] = {"one": [], "parted": []}
            for turn in range(asked.rounds):
                one, lone_us = await measured(stage, lone.url, Partitions(f"one-{turn}"))
                parted, node_us = await measured(stage, cluster.url, Partitions(f"parted-{turn}", asked.partitions))
                found["one"].append(one)
                found["parted"].append(parted)
                parts = f"{asked.partitions} over {asked.nodes}: {parted:.0f}/s, busiest server {node_us:.0f} us"
                say(f"one server: {one:.0f}/s, {lone_us:.0f} us   {parts}")
            one, parted = (statistics.median(found[side]) for side in ("one", "parted"))
            say(f"medians: {one:.0f}/s and {parted:.0f}/s: {parted / one:.2f} times as much")
        finally:
            await provider.kill()
            lone.kill()
            cluster.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    for name, default in {"matches": 6000, "processes": 2, "nodes": 3, "partitions": 4, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asyncio.run(main(parser.parse_args()))
