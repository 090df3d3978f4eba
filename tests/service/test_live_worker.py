"""A worker process that takes new settings and levers while it serves."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from allocator.broker.steps import Steps
from allocator.broker.streams_levers import StreamsLevers
from allocator.redis_io.connect import connect
from tests.conftest import TestServer, WaitUntil
from tests.crash.fleet import Fleet, Simulator

SIMULATOR: dict[str, Any] = {"regions": {"europe": {}, "us-east": {}}, "faults": []}
END_SECONDS = 30.0
LONG = pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="real processes, for seconds: LONG_TESTS=1")
MANY = 45
SLOW = "[regions.europe]\nrate = 1\n"
"""So many matches would take 45 s: they may wait, and would end after `END_SECONDS`."""
Write = Callable[[str], object]
FAST = "[regions.europe]\nrate = 500\nburst = 20\n"


@pytest.fixture
async def fleet(redis_server: TestServer, namespace: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """No worker yet; `settings_file` is theirs."""
    async with (
        Simulator.running(tmp_path, SIMULATOR) as simulator,
        Fleet(namespace, tmp_path, redis_server.url, simulator.url) as fleet,
    ):
        yield fleet


@pytest.fixture
def write(namespace: str, tmp_path: Path) -> Write:
    """Write the settings file of the workers; there is a slow one from the start."""
    path = tmp_path / f"{namespace}.toml"
    path.write_text(SLOW)
    return path.write_text


@pytest.fixture
async def levers(redis_server: TestServer, fleet: Fleet) -> AsyncIterator[StreamsLevers]:
    async def nothing() -> None:
        """No group is read here."""

    async with await connect(redis_server.url, name="test") as connection:
        yield StreamsLevers(Steps(connection, nothing), fleet.keys)


async def test_sighup_reads_the_rate_again_and_a_faulty_file_changes_nothing(
    fleet: Fleet, write: Write, wait_until: WaitUntil
) -> None:
    worker = await fleet.worker()
    await fleet.submit(MANY, regions=["europe"])
    await wait_until(lambda: _ended(fleet, 1), timeout_seconds=END_SECONDS)
    write("[regions.europe]\nrate = -1\n")
    worker.signal(signal.SIGHUP)
    await wait_until(lambda: "the old ones stay in force" in worker.tail(), timeout_seconds=END_SECONDS)
    assert "regions.europe.rate" in worker.tail()
    assert worker.running
    assert await fleet.ends() < MANY
    write(FAST)
    worker.signal(signal.SIGHUP)
    await _all_allocated(fleet)
    assert "settings read again" in worker.tail()


async def test_a_file_that_changes_is_read_by_itself(fleet: Fleet, write: Write) -> None:
    await fleet.worker()
    await fleet.submit(MANY, regions=["europe"])
    write(FAST)
    await _all_allocated(fleet)


@LONG
async def test_a_rate_that_is_set_is_used_at_once(fleet: Fleet, write: Write, levers: StreamsLevers) -> None:
    await fleet.worker()
    await fleet.submit(MANY, regions=["europe"])
    await levers.set_rate("europe", 500, None)
    await _all_allocated(fleet)


@LONG
async def test_a_paused_fleet_takes_nothing_up_until_it_is_resumed(
    fleet: Fleet, levers: StreamsLevers, wait_until: WaitUntil
) -> None:
    await levers.pause(None)
    worker = await fleet.worker()
    await wait_until(lambda: "worker started" in worker.tail())
    await fleet.submit(10)
    await levers.drain("asia", None)
    await wait_until(lambda: "asia" in worker.tail())
    assert await fleet.ends() == 0
    assert not await fleet.redis.exists(*(fleet.keys.allocation(name) for name in fleet.asked))
    await levers.resume()
    await _all_allocated(fleet)


@LONG
async def test_a_drained_region_gets_nothing_new_and_the_next_one_serves(fleet: Fleet, levers: StreamsLevers) -> None:
    await levers.drain("europe", None)
    await fleet.worker()
    await fleet.submit(10)
    await _all_allocated(fleet)
    for name in fleet.asked:
        assert await fleet.redis.hget(fleet.keys.allocation(name), "region") == "us-east"


async def _all_allocated(fleet: Fleet) -> None:
    await fleet.finished(END_SECONDS)
    states = [await fleet.redis.hget(fleet.keys.allocation(name), "state") for name in fleet.asked]
    assert set(states) == {"allocated"}


async def _ended(fleet: Fleet, count: int) -> bool:
    return await fleet.ends() >= count
