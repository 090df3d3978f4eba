"""What is on its way out of a worker when something else comes for it: parked, drained, its last region gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from allocator.broker.parking import Stay
from allocator.engine import worker as worker_module
from allocator.engine.lane import SHUT_ROOM
from allocator.engine.observer import LeaseLost, Left, Parked
from allocator.simulator.gameye import RegionSettings, RetryAfter, StatusFault

if TYPE_CHECKING:
    import pytest

    from tests.engine.conftest import Fleet

SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=0.5))


async def test_a_lease_that_ends_because_the_request_was_parked_is_not_lost(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin({"europe": SHUT})
    member = await fleet.worker(rates={"europe": 100})
    park = member.parts.parking.park

    async def park_and_renew(stay: Stay) -> bool:
        parked = await park(stay)
        await member.worker._renew()  # its reply and that of the parking come in one turn of the loop
        return parked

    monkeypatch.setattr(member.parts.parking, "park", park_and_renew)
    await fleet.send_many(5 * SHUT_ROOM, timeout_seconds=60)
    await fleet.waiting_outside(4 * SHUT_ROOM)
    fleet.apply({"europe": RegionSettings()})
    await fleet.ended(*(f"m-{number}" for number in range(5 * SHUT_ROOM)))
    assert member.seen(LeaseLost) == []
    left = [event.why for event in member.seen(Left) if event.why != "parked"]
    assert (left, len(member.seen(Parked)) >= 4 * SHUT_ROOM) == ([], True)


async def test_who_rests_while_its_last_region_goes_away_ends_then_and_not_at_its_deadline(
    fleet: Fleet, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin({"europe": RegionSettings()}, faults=(StatusFault(),))
    member = await fleet.worker(rates={"europe": 100})
    await fleet.send(id="m", timeout_seconds=60)
    await wait_until(lambda: fleet.posts() >= 2)
    monkeypatch.setattr(member.parts, "atlas", lambda _name: None)
    (answer,) = await fleet.ended("m", seconds=8)
    assert (answer["state"], answer["error_code"]) == ("failed", "no_region")


async def test_a_drain_that_comes_while_requests_are_taken_over_takes_no_more_of_them(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    taken: list[int] = []

    async def take_over(room: int, *_: Any) -> int:
        taken.append(room)
        member.worker.drain()
        await asyncio.sleep(0)
        return room

    monkeypatch.setattr(worker_module, "take_over", take_over)
    async with asyncio.timeout(5):
        await member.worker._take_over()
    assert len(taken) == 1
