"""More than the rates allow: as many as they allow are served, and a host that answers is never set aside for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from allocator.engine.course import SHORTEST_CALL_SECONDS
from allocator.engine.observer import GateShut, Received, Refused
from allocator.simulator.gameye import RegionSettings

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

RATE, OFFERED, SECONDS = 20, 30, 9
TIMEOUT_SECONDS = 2.5
CLOCK_MS = 30
"""How far two looks at Redis' clock may be apart on a busy machine."""
SLOW = RegionSettings(latency_ms=400)


async def test_a_queue_that_only_grows_does_not_end_in_calls_that_are_cut_off(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": SLOW})
    member = await fleet.worker(rates={"europe": RATE})
    ids = []
    for second in range(SECONDS):
        ids += await fleet.send_many(OFFERED, f"m{second}", timeout_seconds=TIMEOUT_SECONDS)
        await asyncio.sleep(1)
    await wait_until(fleet.nothing_is_left)
    answers = [each for each in await fleet.answers(ids) if each]  # who was refused has none
    assert all(each["final"] == "1" for each in answers)
    ends = Counter((each["state"], each.get("error_code")) for each in answers)
    assert ends.keys() <= {("allocated", None), ("expired", "deadline")}, ends
    lasted_ms = [int(each["updated_at"]) - int(each["enqueued_at"]) for each in answers if each["state"] == "expired"]
    assert min(lasted_ms) >= 1000 * (TIMEOUT_SECONDS - SHORTEST_CALL_SECONDS) - CLOCK_MS, "at its deadline, no sooner"
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


async def test_who_could_be_called_in_time_but_not_answered_is_refused_as_overloaded(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"europe": RegionSettings(latency_ms=1000)})
    member = await fleet.worker(rates={"europe": 10})
    await fleet.ended(await fleet.send(id="first", timeout_seconds=60) and "first")
    waiting = await fleet.send_many(30, timeout_seconds=60)
    await wait_until(lambda: len(member.seen(Received)) == 31)
    # its turn comes within three seconds, and a call takes one
    await fleet.send(id="late", timeout_seconds=3.5)
    await wait_until(lambda: member.seen(Refused), timeout_seconds=1)
    assert [each.code for each in member.seen(Refused)] == ["overloaded"]
    await fleet.ended(*waiting)
