"""What operators set, with four workers under load: seen by all within a second, and no match fails for it.

Also the shares of a rate that a region keeps for those who named it first.
"""

from __future__ import annotations

import asyncio
import os
from statistics import median
from typing import TYPE_CHECKING, Any, cast

import pytest

from allocator.gate.fleet import FleetGate
from allocator.service.wiring import PROBE_MARGIN_SECONDS
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

LONG = os.environ.get("LONG_TESTS") == "1"
RATE = 60
"""Of the load, a second."""
SECOND = RATE
"""How many matches come within the second in which a lever is to be seen."""
WHILE = 600 if LONG else 60
"""How many come while it is looked on."""
OPEN = RegionSettings(latency_ms=(5, 20))
SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=30))
BOTH = {"europe": OPEN, "us-east": OPEN}


class Load:
    """Matches that come one after the other, so many a second, until it is stopped."""

    def __init__(self, fleet: Fleet, wait_until: Any, **request: Any) -> None:
        self.ids: list[str] = []
        self._fleet = fleet
        self._wait_until = wait_until
        self._request = request
        self._coming = asyncio.create_task(self._come())

    async def _come(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            self.ids.append(f"m-{len(self.ids)}")
            await self._fleet.send(id=self.ids[-1], timeout_seconds=600, **self._request)
            await asyncio.sleep(begun + len(self.ids) / RATE - loop.time())

    async def more(self, count: int) -> None:
        """Wait until so many more have come."""
        wanted = len(self.ids) + count
        await self._wait_until(lambda: len(self.ids) >= wanted, timeout_seconds=2 * count / RATE + 5)

    async def stop(self) -> list[str]:
        self._coming.cancel()
        await asyncio.wait([self._coming])
        return self.ids


def calls_since(fleet: Fleet, begun: int, location: str) -> int:
    return sum(post.location == location for post in fleet.simulator.ledger.posts[begun:])


async def four(fleet: Fleet, **options: Any) -> None:
    await fleet.begin(BOTH)
    for _ in range(4):
        await fleet.worker(**options)


async def all_are_served(fleet: Fleet, load: Load) -> None:
    ids = await load.stop()
    answers = await fleet.ended(*ids, seconds=30)
    assert {each["state"] for each in answers} == {"allocated"}
    await fleet.assert_one_session_each(ids)


async def test_a_drained_region_is_started_in_no_more_within_a_second_and_again_once_it_is_resumed(
    fleet: Fleet, wait_until: Any
) -> None:
    await four(fleet)
    load = Load(fleet, wait_until)
    await wait_until(lambda: fleet.posts("europe") >= 20)
    await fleet.levers().drain("europe", None)
    await load.more(SECOND)
    begun = fleet.posts()
    await load.more(WHILE)
    assert calls_since(fleet, begun, "europe") == 0
    assert calls_since(fleet, begun, "us-east") >= 20
    await fleet.levers().resume_region("europe")
    await load.more(SECOND)
    begun = fleet.posts()
    await wait_until(lambda: calls_since(fleet, begun, "europe") >= 10)
    assert calls_since(fleet, begun, "us-east") == 0
    await all_are_served(fleet, load)


async def test_matches_for_a_drained_region_alone_are_parked_and_go_on_when_it_is_resumed(
    fleet: Fleet, wait_until: Any
) -> None:
    # fewer than come are served, so that some wait in every lane when it is drained
    await four(fleet, rates={"europe": 40})
    load = Load(fleet, wait_until, regions=["europe"])
    await load.more(2 * SECOND)
    await fleet.levers().drain("europe", None)
    await load.more(SECOND)
    begun = fleet.posts()
    await fleet.waiting_outside(30)
    await load.more(WHILE)
    assert fleet.posts() == begun
    ids = await load.stop()
    await fleet.levers().resume_region("europe")
    answers = await fleet.ended(*ids, seconds=len(ids) / 20 + 10)
    assert {each["state"] for each in answers} == {"allocated"}
    await fleet.assert_one_session_each(ids)


async def test_a_probe_is_waited_for_as_long_as_a_call_may_take_by_the_settings_in_force(fleet: Fleet) -> None:
    await fleet.begin()
    member = await fleet.worker(gameye={"timeout_seconds": 3})
    gate, live = cast(FleetGate, member.parts.gate), member._service.live
    assert gate.probe_hold_seconds == 3 + PROBE_MARGIN_SECONDS
    assert live.settings.gameye is not None
    slower = live.settings.gameye.model_copy(update={"timeout_seconds": 7})
    live._put_in_force(live.settings.model_copy(update={"gameye": slower}), live.levers)
    assert gate.probe_hold_seconds == 7 + PROBE_MARGIN_SECONDS


async def test_a_lever_lapses_by_itself(fleet: Fleet, wait_until: Any) -> None:
    await four(fleet)
    await fleet.levers().drain("europe", 1500)
    load = Load(fleet, wait_until, regions=["europe"])
    await load.more(SECOND)
    begun = fleet.posts()
    await wait_until(lambda: fleet.posts() > begun)
    await all_are_served(fleet, load)


async def test_another_rate_holds_for_the_fleet_within_a_second_and_ends_with_its_lever(
    fleet: Fleet, wait_until: Any
) -> None:
    await four(fleet, rates={"europe": 80})
    load = Load(fleet, wait_until)
    await wait_until(lambda: fleet.posts() >= 20)
    await fleet.levers().set_rate("europe", 8.0, None)
    await load.more(SECOND)
    begun = fleet.posts()
    await load.more(2 * WHILE)
    slow = fleet.posts() - begun
    assert 0 < slow <= 8 * 2 * WHILE / RATE + 3
    await fleet.levers().resume_region("europe")
    await load.more(SECOND)
    begun = fleet.posts()
    await load.more(WHILE)
    assert fleet.posts() - begun >= WHILE / 2
    await all_are_served(fleet, load)


async def test_a_paused_fleet_takes_nothing_up_within_a_second_and_all_of_it_once_it_is_resumed(
    fleet: Fleet, wait_until: Any
) -> None:
    await four(fleet)
    load = Load(fleet, wait_until)
    await wait_until(lambda: fleet.posts() >= 20)
    await fleet.levers().pause(None)
    await load.more(SECOND)
    # what had been taken up is served all the same, and nothing comes to it
    taken = sum(bool(answer) for answer in await fleet.answers(load.ids))
    await load.more(WHILE)
    assert sum(bool(answer) for answer in await fleet.answers(load.ids)) == taken <= len(load.ids) - WHILE
    await fleet.levers().resume()
    resumed = fleet.posts()
    await wait_until(lambda: fleet.posts() > resumed, timeout_seconds=1.3)
    await all_are_served(fleet, load)


@pytest.mark.parametrize("workers", [1, 2])
async def test_guests_get_at_most_what_the_kept_share_leaves_and_those_who_named_it_first_wait_less(
    fleet: Fleet, workers: int
) -> None:
    await fleet.begin({"europe": OPEN, "us-east": SHUT})
    regions = {"europe": {"rate": 40, "first_choice_share": 0.5}, "us-east": {"rate": 1000}}
    for _ in range(workers):
        await fleet.worker(regions=regions)
    guests = await fleet.send_many(60, "guest", regions=["us-east", "europe"], timeout_seconds=60)
    hosts = await fleet.send_many(60, "host", regions=["europe"], timeout_seconds=60)
    answers = await fleet.ended(*guests, *hosts, seconds=15)
    assert {(each["state"], each["region"]) for each in answers} == {("allocated", "europe")}
    moments = [sorted(int(each["allocated_at"]) for each in each_kind) for each_kind in (answers[:60], answers[60:])]
    of_guests, of_hosts = moments
    # in no second more than half of 40, whatever the clock's milliseconds and the answers' 5 to 20 add
    assert max(sum(at <= other < at + 1000 for other in of_guests) for at in of_guests) <= 20 + 2
    waits = [int(each["allocated_at"]) - int(each["enqueued_at"]) for each in answers]
    assert median(waits[60:]) < median(waits[:60])
    # while both wait, the kept half is the hosts'
    assert of_hosts[29] - of_hosts[0] <= 30 / 20 * 1000 + 500
    await fleet.assert_one_session_each([*guests, *hosts])


async def test_a_drained_region_holds_up_none_of_another_that_leads_to_the_same_place(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"x": RegionSettings()})
    place = {"destinations": [{"provider": "gameye", "location": "x", "rate": 20}]}
    worker = await fleet.worker(regions={"a": place, "b": place}, default_regions=("b",))
    await fleet.levers().drain("a", None)
    await wait_until(lambda: (region := worker.parts.atlas("a")) is not None and region.drained)
    drained = await fleet.send_many(60, "a", regions=["a"], timeout_seconds=120)
    await fleet.waiting_outside(60)
    # In one line with the drained they would stand behind them all: their deadlines come later.
    served = await fleet.send_many(60, "b", regions=["b"], timeout_seconds=600)
    assert {answer["state"] for answer in await fleet.ended(*served, seconds=15)} == {"allocated"}
    await fleet.levers().resume_region("a")
    assert {answer["state"] for answer in await fleet.ended(*drained, seconds=15)} == {"allocated"}
