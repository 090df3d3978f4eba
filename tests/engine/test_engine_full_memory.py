"""Redis has no memory left: nobody is taken up and nobody parked, and whoever is under way ends all the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

from allocator.contract.request import Priority
from allocator.redis_io.connect import connect
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.conftest import TestServer, WaitUntil
    from tests.engine.conftest import Fleet

SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=60))


@pytest.fixture
async def fleet(make_fleet: Callable[..., Fleet], private_server: TestServer) -> AsyncIterator[Fleet]:
    """On a server of its own, whose memory has no bound again afterwards."""
    async with await connect(private_server.url, name="test") as connection:
        fleet = make_fleet(private_server.url, connection)
        yield fleet
        private_server.command("CONFIG", "SET", "maxmemory", "0")
        await fleet.end()


async def test_one_that_cannot_be_reserved_holds_up_nobody_whom_a_dead_worker_had(
    fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.begin({"europe": SHUT})
    worker = await fleet.worker(rates={"europe": 100})
    ids = await fleet.send_many(5, timeout_seconds=4)
    await wait_until(lambda: worker.worker.held == 5)
    late = json.dumps({"id": "late", "image": "game", "timeout_seconds": 4})
    stream = fleet.keys.requests(Priority.NORMAL)
    full = [("XADD", stream, "*", "request", late), ("CONFIG", "SET", "maxmemory", "1")]
    await fleet.connection.execute_many(full)

    async def read() -> bool:
        return bool((await fleet.connection.execute("XPENDING", stream, "allocator"))[0])

    await wait_until(read)
    await worker.cut()
    await fleet.worker(rates={"europe": 100})
    answers = await fleet.ended(*ids)
    assert Counter(answer["state"] for answer in answers) == {"expired": 5}
    await fleet.connection.execute("CONFIG", "SET", "maxmemory", "0")
    await fleet.ended("late")


async def test_who_cannot_be_parked_waits_here_and_ends_by_its_deadline(fleet: Fleet, wait_until: WaitUntil) -> None:
    await fleet.begin({"europe": RegionSettings()})
    worker = await fleet.worker(rates={"europe": 1000})
    await fleet.ended(*await fleet.send_many(100, "warm"))
    fleet.apply({"europe": RegionSettings(closed=420, latency_ms=(800, 800), retry_after=RetryAfter(seconds=60))})
    ids = await fleet.send_many(50, timeout_seconds=4)
    await wait_until(lambda: worker.lanes()[0]._out >= 50)
    await fleet.connection.execute("CONFIG", "SET", "maxmemory", "1")
    answers = await fleet.ended(*ids)
    assert Counter(answer["state"] for answer in answers) == {"expired": 50}


async def test_who_cannot_be_parked_and_may_go_nowhere_for_now_keeps_its_time(
    fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420, latency_ms=(1500, 1500))})
    worker = await fleet.worker(rates={"europe": 1000})
    await fleet.send(id="m-1", regions=["europe"], timeout_seconds=30)
    await wait_until(lambda: worker.lanes() and worker.lanes()[0]._out)
    await fleet.levers().drain("europe", None)
    await wait_until(lambda: (region := worker.parts.atlas("europe")) is not None and region.drained)
    await fleet.connection.execute("CONFIG", "SET", "maxmemory", "1")
    ((allocation, _),) = worker.worker._held.values()
    await wait_until(lambda: not allocation._may_park)
    fleet.apply({"europe": RegionSettings()})
    await fleet.connection.execute("CONFIG", "SET", "maxmemory", "0")
    await fleet.levers().resume_region("europe")
    (answer,) = await fleet.ended("m-1")
    assert answer["state"] == "allocated"
