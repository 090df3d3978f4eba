"""More than the rates allow: as many as they allow are served, and a host that answers is never set aside for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from allocator.engine.observer import GateShut
from allocator.simulator.gameye import RegionSettings

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

RATE, OFFERED, SECONDS = 20, 30, 9
SLOW = RegionSettings(latency_ms=400)


async def test_a_queue_that_only_grows_does_not_end_in_calls_that_are_cut_off(fleet: Fleet) -> None:
    await fleet.begin({"europe": SLOW})
    member = await fleet.worker(rates={"europe": RATE})
    ids = []
    for second in range(SECONDS):
        ids += await fleet.send_many(OFFERED, f"m{second}", timeout_seconds=2.5)
        await asyncio.sleep(1)
    await asyncio.sleep(3)
    answers = [each for each in await fleet.answers(ids) if each]  # who was refused has none
    assert all(each["final"] == "1" for each in answers)
    ends = Counter((each["state"], each.get("error_code")) for each in answers)
    assert ends.keys() <= {("allocated", None), ("expired", "deadline")}, ends
    late = [each for each in answers if each["request_id"].startswith(("m6", "m7", "m8"))]
    assert sum(each["state"] == "allocated" for each in late) >= 0.7 * RATE * 3
    assert len(fleet.alive()) == ends["allocated", None], "nothing was started in vain"
    assert member.seen(GateShut) == []


async def test_matches_with_no_time_for_a_call_shut_the_region_for_nobody(fleet: Fleet) -> None:
    await fleet.begin({"europe": SLOW})
    member = await fleet.worker(rates={"europe": 1000})
    hurried = await fleet.send_many(30, "hurried", timeout_seconds=0.3)
    others = await fleet.send_many(30, timeout_seconds=30)
    assert {each["state"] for each in await fleet.ended(*others)} == {"allocated"}
    assert {each["state"] for each in await fleet.ended(*hurried)} == {"expired"}
    assert member.seen(GateShut) == []
