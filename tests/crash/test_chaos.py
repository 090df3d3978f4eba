"""Chaos: a worker is killed every second while a provider loses answers and lands sessions late."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TestServer
from tests.crash.account import Account
from tests.crash.fleet import Fleet, Simulator

LATE_SECONDS = 3.0
CALM_SECONDS = 30.0
ALLOCATED_SHARE = 0.98
WORKERS = 3
SIMULATOR: dict[str, Any] = {
    "regions": {"europe": {"latency_ms": "30-120"}, "us-east": {"latency_ms": "30-120"}},
    "faults": [
        {"kind": "lost_reply", "probability": 0.08},
        {"kind": "lost_reply", "probability": 0.02, "how": "hang"},
        {"kind": "late", "probability": 0.03, "after_seconds": LATE_SECONDS},
    ],
}


@dataclass(frozen=True, slots=True)
class Storm:
    """So many matches over so many seconds, each of which kills a worker."""

    matches: int
    seconds: int
    lease_seconds: float


SMALL = Storm(matches=240, seconds=6, lease_seconds=2)
WHOLE = Storm(matches=1500, seconds=18, lease_seconds=5)


@pytest.mark.parametrize(
    "storm",
    [
        pytest.param(SMALL, id="small"),
        pytest.param(
            WHOLE,
            id="whole",
            marks=pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="takes a minute: LONG_TESTS=1"),
        ),
    ],
)
async def test_a_worker_killed_every_second_costs_no_match_and_leaves_no_server(
    storm: Storm, private_server: TestServer, tmp_path: Path, namespace: str
) -> None:
    async with (
        Simulator.running(tmp_path, SIMULATOR) as simulator,
        Fleet(namespace, tmp_path, private_server.url, simulator.url, lease_seconds=storm.lease_seconds) as fleet,
    ):
        await asyncio.gather(*(fleet.worker() for _ in range(WORKERS)))
        await asyncio.gather(_kill_every_second(fleet, storm), _ask(fleet, storm))
        account: Account = await fleet.calm(simulator, CALM_SECONDS, steady_seconds=LATE_SECONDS)
    assert not account.faults(), account.states
    assert account.states["allocated"] >= ALLOCATED_SHARE * storm.matches


async def _kill_every_second(fleet: Fleet, storm: Storm) -> None:
    for number in range(storm.seconds):
        await asyncio.sleep(1)
        await fleet.workers[number].kill()
        await fleet.worker(wait=False)


async def _ask(fleet: Fleet, storm: Storm) -> None:
    since = time.monotonic()
    for number in range(storm.matches):
        await asyncio.sleep(max(0.0, since + number * storm.seconds / storm.matches - time.monotonic()))
        await fleet.submit(1)
