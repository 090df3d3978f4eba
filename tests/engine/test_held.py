"""How many requests a worker holds: few where it is all that they wait for, up to its backlog where it is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from allocator.engine.progress import STILL_SECONDS, Progress
from allocator.engine.worker import AHEAD_MAX
from allocator.simulator.gameye import Dropped, How, RegionSettings

if TYPE_CHECKING:
    from tests.conftest import RunVirtually
    from tests.engine.conftest import Fleet

CALLS = 20
SOON_MS = 2000
"""Long before those who are stuck give up."""
NARROW = {"concurrency": CALLS, "backlog": 400, "lease_seconds": 10}


async def test_a_worker_that_is_busy_holds_little_beyond_its_calls(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings(latency_ms=(50, 100))})
    member = await fleet.worker(rates={"europe": 10_000}, worker=NARROW)
    ids = await fleet.send_many(600)
    most = 0

    async def all_told() -> bool:
        nonlocal most
        most = max(most, member.worker.held)
        return int(await fleet.connection.execute("XLEN", fleet.keys.results)) == len(ids)

    await wait_until(all_told, timeout_seconds=20)
    assert CALLS <= most <= CALLS + AHEAD_MAX
    await fleet.assert_one_session_each(ids)


async def test_those_who_wait_for_calls_that_hang_keep_nobody_from_another_region(fleet: Fleet) -> None:
    await fleet.begin(faults=(Dropped(how=How.HANG, regions=("europe",)),))
    wide = {"rate": 1000, "burst": 1000}  # so that nothing waits for the rate
    await fleet.worker(worker=NARROW, regions={"europe": wide, "us-east": wide})
    stuck = await fleet.send_many(200, "stuck", regions=["europe"], timeout_seconds=4)
    ids = await fleet.send_many(10, "free", regions=["us-east"])
    answers = await fleet.ended(*ids)
    assert {each["region"] for each in answers} == {"us-east"}
    assert max(int(each["allocated_at"]) - int(each["enqueued_at"]) for each in answers) < SOON_MS
    await fleet.ended(*stuck)


async def test_those_who_wait_for_a_rate_may_fill_the_backlog(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings(), "us-east": RegionSettings()})
    member = await fleet.worker(rates={"europe": 100, "us-east": 100}, worker=NARROW)
    waiting = await fleet.send_many(170, regions=["europe"])
    ids = await fleet.send_many(10, "free", regions=["us-east"])
    await wait_until(lambda: member.worker.held > CALLS + AHEAD_MAX)
    answers = await fleet.ended(*ids, seconds=1)
    assert {each["region"] for each in answers} == {"us-east"}
    await fleet.ended(*waiting)


def test_a_lane_is_held_back_by_its_rate_and_by_calls_that_hang(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        progress = Progress()
        progress.given(3, (0.0, 0.02, 0.04))
        assert not progress.is_held_back
        progress.given(3, (0.0, 0.02))
        assert progress.is_held_back
        progress.given(2, (0.02, 0.04))
        assert progress.is_held_back
        progress.given(1, (0.0,))
        assert not progress.is_held_back
        await asyncio.sleep(STILL_SECONDS + 0.05)  # of virtual time
        assert progress.is_held_back
        progress.moved()
        assert not progress.is_held_back

    run_virtually(story)
