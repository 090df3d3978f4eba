"""What a Redis may go through while matches are on their way: the workers live, and nothing that it kept is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from tests.conftest import TestServer, WaitUntil
from tests.crash.fleet import Fleet, Simulator

SIMULATOR: dict[str, Any] = {
    "regions": {"europe": {"latency_ms": "50-150"}, "us-east": {"latency_ms": "50-150"}},
    "faults": [{"kind": "lost_reply", "probability": 0.05}],
}
RESUME_SECONDS = 2.0
END_SECONDS = 40.0


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator.running(tmp_path, SIMULATOR) as simulator:
        yield simulator


@pytest.fixture
async def fleet(
    private_server: TestServer, simulator: Simulator, namespace: str, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """One worker, which may hold twenty requests at a time."""
    options = ("worker.backlog=20",)
    async with Fleet(
        namespace, tmp_path, private_server.url, simulator.url, lease_seconds=2, settings=options
    ) as fleet:
        await fleet.worker()
        yield fleet


async def all_well(fleet: Fleet, simulator: Simulator) -> None:
    await fleet.finished(END_SECONDS)
    account = await fleet.calm(simulator, END_SECONDS)
    assert not account.faults(), fleet.tails()
    assert account.states == {"allocated": len(fleet.asked)}
    assert all(worker.running for worker in fleet.workers)


async def ask_until(stop: asyncio.Event, fleet: Fleet) -> None:
    """Ask for a match every few milliseconds; one that was not acknowledged is asked for again under its id."""
    while not stop.is_set():
        try:
            await fleet.submit(1)
        except RedisError:
            fleet.asked.pop()
        await asyncio.sleep(0.02)


async def posts(simulator: Simulator) -> int:
    total: int = (await simulator.counts())["posts_total"]
    return total


async def test_a_redis_that_is_killed_twice_under_load_loses_nothing_that_it_kept(
    private_server: TestServer, simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    stop = asyncio.Event()
    asking = asyncio.create_task(ask_until(stop, fleet))
    for wanted, away_seconds in ((25, 0.2), (75, 1.5)):
        await wait_until(partial(_asked, fleet, wanted))
        private_server.kill()
        await asyncio.sleep(away_seconds)
        private_server.start()
        back, made = time.monotonic(), await posts(simulator)

        await wait_until(partial(_posted, simulator, made), timeout_seconds=END_SECONDS)
        assert time.monotonic() - back < RESUME_SECONDS
    stop.set()
    await asking
    await all_well(fleet, simulator)


async def test_a_redis_that_turns_read_only_and_back_is_waited_for(
    private_server: TestServer, simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.submit(60)
    await wait_until(partial(_ends, fleet, 5))
    private_server.command("REPLICAOF", "127.0.0.1", "1")
    await wait_until(lambda: "cannot be asked" in fleet.workers[0].tail())
    private_server.command("REPLICAOF", "NO", "ONE")
    await fleet.submit(20)
    await all_well(fleet, simulator)


async def test_a_redis_that_is_still_loading_is_waited_for(
    private_server: TestServer, simulator: Simulator, fleet: Fleet
) -> None:
    with private_server.plain() as client:
        client.mset({f"filler:{number}": "x" for number in range(500)})
        for number in range(500):
            client.set(f"filler:{number}", "y")
    await fleet.submit(60)
    private_server.kill()
    slow = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    since = time.monotonic()
    await asyncio.to_thread(private_server.start, *slow)
    assert time.monotonic() - since > 1, "it did not load slowly"
    await fleet.submit(20)
    await all_well(fleet, simulator)


async def test_a_redis_that_forgot_its_scripts_is_given_them_again(
    private_server: TestServer, simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    for batch in range(1, 5):
        await fleet.submit(20)
        private_server.command("SCRIPT", "FLUSH")
        await wait_until(partial(_ends, fleet, batch * 20 - 10), timeout_seconds=END_SECONDS)
        private_server.command("SCRIPT", "FLUSH")
    await all_well(fleet, simulator)


async def test_a_redis_that_was_flushed_serves_what_comes_later_and_stops_no_match_in_play(
    private_server: TestServer, simulator: Simulator, fleet: Fleet
) -> None:
    before = await fleet.submit(20)
    await all_well(fleet, simulator)
    playing = {session["id"] for session in await simulator.sessions()}
    private_server.command("FLUSHALL")
    later = [each for _ in range(4) for each in await fleet.submit(5)]
    fleet.asked = later
    await fleet.finished(END_SECONDS)
    fleet.asked = []
    for name in before:
        fleet.asked.append(name)
        await fleet.redis.xadd(*fleet.entry(name))
    await fleet.finished(END_SECONDS)
    fleet.asked = [*before, *later]
    await all_well(fleet, simulator)
    assert playing <= {session["id"] for session in (await fleet.account(simulator)).alive}


async def test_a_full_redis_takes_nothing_up_finishes_what_it_has_and_goes_on_when_there_is_room(
    private_server: TestServer, simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.submit(80)
    await wait_until(partial(_ends, fleet, 10))
    private_server.command("CONFIG", "SET", "maxmemory", "1")

    async def nothing_held() -> bool:
        return not await fleet.redis.zcard(fleet.keys.leases)

    await wait_until(nothing_held, timeout_seconds=END_SECONDS)
    done = await fleet.ends()
    assert 10 <= done < 80
    private_server.command("CONFIG", "SET", "maxmemory", "0")
    await fleet.submit(10)
    await all_well(fleet, simulator)


def _asked(fleet: Fleet, count: int) -> bool:
    return len(fleet.asked) >= count


async def _posted(simulator: Simulator, count: int) -> bool:
    return await posts(simulator) > count


async def _ends(fleet: Fleet, count: int) -> bool:
    with contextlib.suppress(RedisError):
        return await fleet.ends() >= count
    return False


async def test_a_power_cut_that_ends_redis_and_every_worker_loses_no_match_and_stops_none_in_play(
    private_server: TestServer, simulator: Simulator, fleet: Fleet, wait_until: WaitUntil
) -> None:
    # What was condemned before is left alone where it is alive: nobody is left who knows that Redis lost nothing.
    await simulator.become({**SIMULATOR, "faults": [{"kind": "lost_reply", "probability": 0.2}]})
    for turn in range(1, 3):
        await fleet.submit(60)
        await wait_until(partial(_ends, fleet, turn * 60 - 50), timeout_seconds=END_SECONDS)
        private_server.kill()
        await fleet.workers[-1].kill()
        private_server.start()
        await fleet.worker()
    await fleet.finished(END_SECONDS)
    account = await fleet.account(simulator)
    assert not account.lost()
    assert not account.dead()
    assert not account.announcements()
