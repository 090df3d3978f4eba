"""Who is parked for a place that no worker asks about any more is planned anew, and goes where its region leads now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker import streams_parking
from allocator.engine.lane import SHUT_ROOM
from allocator.engine.observer import Parked
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet, Member

OPEN = RegionSettings()
SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=0.5))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look that nobody takes is enough: each worker of these tests takes one a second."""
    monkeypatch.setattr(streams_parking, "STRANDED_MS", 1500)


def leads_to(*locations: str, **options: Any) -> dict[str, Any]:
    return {"destinations": [{"provider": "gameye", "location": each, "rate": 100} for each in locations], **options}


def settings_change(member: Member, **changed: Any) -> None:
    """What a worker does once it has read its settings again."""
    live = member._service.live
    given = {name: getattr(live.settings, name) for name in live.settings.model_fields_set}
    live._put_in_force(type(live.settings)(**{**given, **changed}), live.levers)


async def parked(fleet: Fleet, prefix: str = "m", **request: Any) -> list[str]:
    """Some who wait for a shut region, most of them outside."""
    ids = await fleet.send_many(60, prefix, timeout_seconds=20, **request)
    await fleet.waiting_outside(60 - 2 * SHUT_ROOM)
    return ids


async def assert_all_served(fleet: Fleet, ids: list[str], location: str) -> None:
    answers = await fleet.ended(*ids, seconds=25)
    assert {(each["state"], each.get("location")) for each in answers} == {("allocated", location)}
    await fleet.assert_one_session_each(ids)


async def test_after_a_rolling_change_the_parked_go_where_their_region_leads_now(fleet: Fleet) -> None:
    await fleet.begin({"europe": SHUT, "europe2": OPEN})
    one = await fleet.worker(regions={"europe": leads_to("europe")}, default_regions=())
    ids = await parked(fleet, regions=["europe"])
    await one.drain()
    await fleet.worker(regions={"europe": leads_to("europe2")}, default_regions=())
    await assert_all_served(fleet, ids, "europe2")


async def test_so_they_do_where_a_running_worker_has_read_its_settings_again(fleet: Fleet) -> None:
    await fleet.begin({"europe": SHUT, "europe2": OPEN})
    one = await fleet.worker(regions={"europe": leads_to("europe")}, default_regions=())
    ids = await parked(fleet, regions=["europe"])
    settings_change(one, regions={"europe": leads_to("europe2")})
    await assert_all_served(fleet, ids, "europe2")


async def test_while_a_worker_serves_a_lot_no_other_takes_it_for_stranded(
    fleet: Fleet, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin({"europe": SHUT, "europe2": OPEN})
    await fleet.worker(regions={"europe": leads_to("europe")}, default_regions=())
    ids = await parked(fleet, regions=["europe"])
    two = await fleet.worker(regions={"other": leads_to("europe2")}, default_regions=())
    told: list[list[str]] = []
    parking = two.parts.parking
    ask = parking.stranded

    async def stranded(served: Sequence[str]) -> list[str]:
        told.append(await ask(served))
        return told[-1]

    monkeypatch.setattr(parking, "stranded", stranded)
    await wait_until(lambda: len(told) >= 4)
    assert told[:4] == [[]] * 4
    assert two.worker.held == 0
    fleet.apply({"europe": OPEN, "europe2": OPEN})
    await assert_all_served(fleet, ids, "europe")


async def test_guests_are_called_though_no_share_is_kept_from_them_any_more(fleet: Fleet) -> None:
    await fleet.begin({"europe": SHUT, "asia": SHUT})
    regions = {"asia": leads_to("asia"), "europe": leads_to("europe", first_choice_share=0.5)}
    one = await fleet.worker(regions=regions, default_regions=())
    ids = await parked(fleet, regions=["asia", "europe"])
    await one.drain()
    await fleet.worker(regions={**regions, "europe": leads_to("europe")}, default_regions=())
    fleet.apply({"europe": OPEN, "asia": SHUT})
    await assert_all_served(fleet, ids, "europe")


async def test_those_for_a_drained_region_that_nobody_configured_outlive_every_worker(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"europe": OPEN, "mars": OPEN})
    options: dict[str, Any] = {"unknown_regions": "default", "region_defaults": {"rate": 100}}
    first = await fleet.worker(rates={"europe": 100}, **options)
    await fleet.levers().drain("mars", None)
    await wait_until(lambda: (mars := first.parts.atlas("mars")) is not None and bool(mars.drained))
    ids = await fleet.send_many(20, regions=["mars"], timeout_seconds=20)
    await fleet.waiting_outside(20)
    await first.drain()
    await fleet.worker(rates={"europe": 100}, **options)
    await fleet.levers().resume_region("mars")
    await assert_all_served(fleet, ids, "mars")


async def test_who_waits_for_a_drained_region_is_not_called_in_again_and_again(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"x": OPEN})
    worker = await fleet.worker(rates={"x": 100})
    await fleet.levers().drain("x", None)
    await wait_until(lambda: (region := worker.parts.atlas("x")) is not None and bool(region.drained))
    await fleet.send(id="m-1", regions=["x"], timeout_seconds=60)
    await fleet.waiting_outside(1)
    loop = asyncio.get_running_loop()
    since = loop.time()
    await wait_until(lambda: loop.time() > since + 2)
    assert len(worker.seen(Parked)) == 1
    await fleet.levers().resume_region("x")
    (answer,) = await fleet.ended("m-1")
    assert answer["state"] == "allocated"
