"""A fleet by way of sentinels: its primary ends under load, and no match is lost that anyone asks for again."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.client import Allocation, AllocatorClient, State, Unavailable
from tests.crash.fleet import ALIVE, Fleet, Simulator

if TYPE_CHECKING:
    from tests.cluster.estate import TestPair

ARRIVALS_A_SECOND = 40
RESUME_SECONDS = 3.0
LOAD_SECONDS = 30.0 if os.environ.get("LONG_TESTS") else 3.0
AGAIN_SECONDS = 4.0
"""What a matchmaker waits before it sends a match again: what the replica had not got yet is nobody's any more."""


async def test_the_end_of_the_primary_under_load_costs_no_match_and_makes_no_second_server(
    pair: TestPair, tmp_path: Path
) -> None:
    settings = ("region_defaults.rate=200", "region_defaults.burst=1")
    ended_at: list[float] = []

    async def ask(client: AllocatorClient, number: int) -> Allocation:
        request = {"id": f"m-{number}", "image": "g", "regions": ["europe"], "timeout_seconds": 60}
        while True:
            try:
                end = await client.allocate(request, timeout_seconds=AGAIN_SECONDS)
            except Unavailable:
                await asyncio.sleep(0.05)
            except TimeoutError:
                pass  # sent again
            else:
                ended_at.append(time.monotonic())
                return end

    async with (
        Simulator.running(tmp_path, {"regions": {"europe": {"latency_ms": [20, 40]}}, "faults": []}) as simulator,
        Fleet("promoted", tmp_path, pair.url, simulator.url, settings=settings, watch_url=pair.primary.url) as fleet,
        AllocatorClient(pair.url, "promoted") as client,
    ):
        await fleet.worker()
        asked = []
        promoted = asyncio.create_task(_kill_and_promote(pair, LOAD_SECONDS / 4))
        for number in range(round(LOAD_SECONDS * ARRIVALS_A_SECOND)):
            asked.append(asyncio.create_task(ask(client, number)))
            await asyncio.sleep(1 / ARRIVALS_A_SECOND)
        promoted_at = await promoted
        ends = await asyncio.gather(*asked)
        assert Counter(end.state for end in ends) == {State.ALLOCATED: len(asked)}
        assert min(at for at in ended_at if at > promoted_at) - promoted_at < RESUME_SECONDS
        alive = Counter(each["id"] for each in await simulator.sessions() if each["status"] in ALIVE)
        assert alive == Counter(end.session_id for end in ends)


async def _kill_and_promote(pair: TestPair, after_seconds: float) -> float:
    """End the primary; when the other one took its place, and takes writes."""
    await asyncio.sleep(after_seconds)
    pair.primary.kill()
    await pair.promoted()
    # It has no replica of its own here, and would refuse every write as it was told to.
    pair.replica.command("CONFIG", "SET", "min-replicas-to-write", 0)
    return time.monotonic()
