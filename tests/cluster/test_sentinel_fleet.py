"""A fleet by way of sentinels: its primary ends under load, and no match is lost that anyone asks for again."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.client import AllocatorClient, State
from tests.cluster.matchmaker import Matchmaker
from tests.crash.fleet import ALIVE, Fleet, Simulator

if TYPE_CHECKING:
    from tests.cluster.estate import TestPair

ARRIVALS_A_SECOND = 40
RESUME_SECONDS = 3.0
LOAD_SECONDS = 30.0 if os.environ.get("LONG_TESTS") else 3.0


async def test_the_end_of_the_primary_under_load_costs_no_match_and_makes_no_second_server(
    pair: TestPair, tmp_path: Path
) -> None:
    settings = ("region_defaults.rate=200", "region_defaults.burst=1")
    async with (
        Simulator.running(tmp_path, {"regions": {"europe": {"latency_ms": [20, 40]}}, "faults": []}) as simulator,
        Fleet("promoted", tmp_path, pair.url, simulator.url, settings=settings, watch_url=pair.primary.url) as fleet,
        AllocatorClient(pair.url, "promoted") as client,
    ):
        await fleet.worker()
        matchmaker = Matchmaker(client)
        promoted = asyncio.create_task(_kill_and_promote(pair, LOAD_SECONDS / 4))
        ends = await matchmaker.ask(round(LOAD_SECONDS * ARRIVALS_A_SECOND), ARRIVALS_A_SECOND)
        promoted_at = await promoted
        assert Counter(end.state for end in ends) == {State.ALLOCATED: len(ends)}
        assert min(at for _, at in matchmaker.ended if at > promoted_at) - promoted_at < RESUME_SECONDS
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
