"""How a worker may end or sleep: told to, killed, paused past its lease. None of it starts or stops a server twice."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TestServer, WaitUntil
from tests.crash.fleet import Fleet, Simulator

SIMULATOR: dict[str, Any] = {
    "regions": {"europe": {"latency_ms": "150-350"}, "us-east": {"latency_ms": "150-350"}},
    "faults": [],
}
LEASE_SECONDS = 2.0
END_SECONDS = 40.0
MANY = 400
"""More than the fleet's rate of sixty a second serves while a worker leaves."""


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator.running(tmp_path, SIMULATOR) as simulator:
        yield simulator


@pytest.fixture
async def fleet(redis_server: TestServer, simulator: Simulator, namespace: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """No worker yet."""
    options = ("region_defaults.rate=60", "region_defaults.burst=1")
    async with Fleet(
        namespace, tmp_path, redis_server.url, simulator.url, lease_seconds=LEASE_SECONDS, settings=options
    ) as fleet:
        yield fleet


async def test_sigterm_under_load_ends_a_worker_in_time_and_no_id_is_posted_twice(
    simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    leaving, staying = await fleet.worker(), await fleet.worker()
    await fleet.submit(MANY)
    await wait_until(lambda: _ended(fleet, 20), timeout_seconds=END_SECONDS)
    since = time.monotonic()
    leaving.signal(signal.SIGTERM)
    assert await leaving.ended() == 0
    assert time.monotonic() - since < 5
    assert await fleet.ends() < MANY, "it was not under load"
    await fleet.finished(END_SECONDS)
    account = await fleet.calm(simulator, END_SECONDS)
    assert not account.faults()
    assert staying.running
    counts = await simulator.counts()
    assert counts["posts_total"] == counts["sessions_total"] == MANY


async def test_a_worker_that_slept_past_its_lease_changes_nothing_when_it_wakes(
    simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    sleeper = await fleet.worker()
    await fleet.submit(40)
    await wait_until(lambda: _ended(fleet, 5), timeout_seconds=END_SECONDS)
    sleeper.signal(signal.SIGSTOP)
    await fleet.worker()
    await fleet.finished(END_SECONDS)
    before = await fleet.calm(simulator, END_SECONDS)
    assert not before.faults()
    sleeper.signal(signal.SIGCONT)
    await wait_until(lambda: "lease lost" in sleeper.tail(), timeout_seconds=END_SECONDS)
    asked = list(fleet.asked)
    await fleet.submit(10)
    await fleet.finished(END_SECONDS)
    after = await fleet.calm(simulator, END_SECONDS)
    assert not after.faults()
    assert {name: after.hashes[name] for name in asked} == before.hashes
    assert after.results[: len(before.results)] == before.results
    assert len(after.results) == len(asked) + 10


async def test_all_matches_of_a_worker_that_was_killed_are_recorded_within_fifteen_seconds(
    simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    lease = "worker.lease_seconds=10"
    killed, _ = await fleet.worker(lease), await fleet.worker(lease)
    await fleet.submit(120)
    await wait_until(lambda: _ended(fleet, 10), timeout_seconds=END_SECONDS)
    await killed.kill()
    since = time.monotonic()
    await fleet.finished(END_SECONDS)
    assert time.monotonic() - since < 15
    assert not (await fleet.calm(simulator, END_SECONDS)).faults()


async def _ended(fleet: Fleet, count: int) -> bool:
    return await fleet.ends() >= count
