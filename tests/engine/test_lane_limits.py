"""What a lane makes of changed limits and of regions: a lifted rate is used at once, a drained lane calls nobody in."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, cast

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import FIRST_WINDOW, Lane
from allocator.engine.slots import Slots
from allocator.engine.ticket import Permit, Ticket
from allocator.gate.gate import Ask, Gate, Grant, Limit

if TYPE_CHECKING:
    from tests.conftest import RunVirtually

EUROPE = Destination("gameye", "europe")
WAITING = 30


class PacedGate:
    """Gives one permit after the other at the rate of the limit that it is asked for."""

    def __init__(self) -> None:
        self._next_at = 0.0

    async def permits(self, ask: Ask) -> Grant:
        now, rate = asyncio.get_running_loop().time(), ask.limits[0].rate
        if rate is None:
            return Grant((0.0,) * ask.count)
        if now < self._next_at:
            return Grant((), wait_seconds=self._next_at - now)
        self._next_at = now + 1.01 / rate
        return Grant((0.0,), rate=rate)


def limits(rate: float | None) -> tuple[Limit, ...]:
    return (Limit("gameye", "studio", "europe", rate),)


def lane_of(rate: float | None) -> Lane:
    gate: Any = PacedGate()
    return Lane(EUROPE, limits(rate), gate=cast(Gate, gate), slots=Slots(100), chance=random.Random(1))


async def all_served(lane: Lane) -> float:
    """How long it takes until so many have had their permit."""
    loop = asyncio.get_running_loop()
    since = loop.time()

    async def one(number: int) -> None:
        permit = await Ticket(Priority.NORMAL, (0, number), (lane,), 1.0).wait(600)
        assert isinstance(permit, Permit)
        lane.finish(served=True)

    await asyncio.gather(*(one(number) for number in range(WAITING)))
    return loop.time() - since


def test_a_rate_that_is_lifted_is_used_at_once(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = lane_of(1.0)
        pump = asyncio.ensure_future(lane.pump())
        assert await all_served(lane) >= WAITING - 1
        lane.relimit(limits(1000.0))
        assert await all_served(lane) < 3
        lane.relimit(limits(1.0))
        assert await all_served(lane) >= WAITING - 1
        lane.relimit(limits(None))
        assert await all_served(lane) < 3
        pump.cancel()

    run_virtually(story)


def test_a_lane_that_no_open_region_leads_to_calls_nobody_in(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = lane_of(10.0)
        for regions, calls in ((None, True), ({"eu"}, True), (set[str](), False), ({"eu", "any"}, True)):
            lane.open_by = None if regions is None else frozenset(regions)
            assert bool(lane.calls_in) is calls

    run_virtually(story)


def test_who_waits_behind_a_full_window_is_served_as_soon_as_a_call_comes_back(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = lane_of(None)
        pump = asyncio.ensure_future(lane.pump())
        waits = [Ticket(Priority.NORMAL, (0, number), (lane,), 1.0).wait(600) for number in range(2 * FIRST_WINDOW)]
        served = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.sleep(1)
        assert [task.done() for task in served].count(True) == FIRST_WINDOW
        lane.finish(served=False)
        await asyncio.sleep(0.001)
        assert [task.done() for task in served].count(True) == FIRST_WINDOW + 1
        for task in (pump, *served):
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)

    run_virtually(story)
