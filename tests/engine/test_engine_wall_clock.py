"""The machine's wall clock is set (NTP, a VM that resumes) while Redis' clock and the loop's go on."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from allocator.broker import streams
from allocator.simulator.gameye import RegionSettings

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.engine.conftest import Fleet


class Clock:
    """In the place of the module `time`."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time() + self.ahead_seconds


@pytest.mark.parametrize("ahead_seconds", [7200.0, -7200.0])
async def test_a_wall_clock_that_is_set_ends_no_match_and_drops_no_answer(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil, ahead_seconds: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(streams, "time", clock)
    slow = (300.0, 300.0)
    await fleet.begin(
        {"europe": RegionSettings(latency_ms=slow, closed=420), "us-east": RegionSettings(latency_ms=slow)}
    )
    worker = await fleet.worker(worker={"lease_seconds": 10})
    early = await fleet.send_many(20, "early", regions=["us-east"])
    await fleet.ended(*early)
    late = await fleet.send_many(10, "late", regions=["europe", "us-east"])
    await wait_until(lambda: sum(lane._out for lane in worker.lanes()) == 10)
    clock.ahead_seconds = ahead_seconds
    answers = await fleet.ended(*late)
    assert Counter(answer["state"] for answer in answers) == {"allocated": 10}
    assert len(await fleet.results()) == 30
