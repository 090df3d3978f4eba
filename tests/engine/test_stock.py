"""Permits at hand: as many as a busy lane uses up, none where they could be lost, and none that is late or void."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import Lane
from allocator.engine.progress import LATE_SECONDS
from allocator.engine.slots import Slots
from allocator.engine.stock import EARLY_SECONDS, LEAST, USUAL_SECONDS
from allocator.engine.ticket import NoPermit, Permit, Ticket
from allocator.gate.gate import Ask, Cause, Grant, Limit
from tests.engine.test_lanes import StubGate

if TYPE_CHECKING:
    from tests.conftest import RunVirtually

ROUND_TRIP_SECONDS = 0.001


class Busy:
    """A lane whose gate is a round trip away, and matches that come at a steady pace."""

    def __init__(self, rate: float | None = None, slots: int = 100) -> None:
        self.gate = StubGate()
        answer = self.gate.permits

        async def permits(ask: Ask) -> Grant:
            await asyncio.sleep(ROUND_TRIP_SECONDS)
            return await answer(ask)

        self.gate.permits = permits  # type: ignore[method-assign]  # the same, later
        self.slots = Slots(slots)
        limit = Limit("gameye", "studio", "europe", rate)
        europe = Destination("gameye", "europe")
        self.lane = Lane(europe, (limit,), gate=self.gate, slots=self.slots, chance=random.Random(1), first_window=200)
        self.pump = asyncio.ensure_future(self.lane.pump())
        self.waits: list[float] = []

    async def match(self) -> Permit | NoPermit:
        permit = await Ticket(Priority.NORMAL, (0, len(self.waits)), (self.lane,), 1.0).wait(1.0)
        if isinstance(permit, Permit):
            self.waits.append(permit.waited_seconds)
            permit.lane.finish(served=True)
        return permit

    async def matches(self, count: int, a_second: float) -> None:
        coming = []
        for _ in range(count):
            coming.append(asyncio.ensure_future(self.match()))
            await asyncio.sleep(1 / a_second)
        await asyncio.gather(*coming)

    @property
    def given(self) -> int:
        return sum(ask.count for ask in self.gate.asks)


def test_a_busy_lane_keeps_nobody_waiting_and_asks_for_little_more_than_it_uses(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        busy = Busy()
        await busy.matches(1000, a_second=1000)
        settled = busy.waits[100:]
        assert settled.count(0.0) > 0.99 * len(settled)
        assert len(busy.gate.asks) < 1000 / 5
        assert busy.given <= 1000 * 1.1
        assert (busy.slots.free, busy.lane._out, busy.lane._held) == (100, 0, 0)
        busy.pump.cancel()

    run_virtually(story)


@pytest.mark.parametrize(
    ("rate", "a_second"), [(None, (LEAST - 1) / USUAL_SECONDS), (LEAST / EARLY_SECONDS - 1, 1000.0)]
)
def test_where_a_permit_could_be_lost_none_is_asked_for_ahead(
    run_virtually: RunVirtually, rate: float | None, a_second: float
) -> None:
    async def story() -> None:
        busy = Busy(rate)
        await busy.matches(300, a_second)
        assert busy.given == 300
        busy.pump.cancel()

    run_virtually(story)


def test_a_rate_that_is_used_up_ends_it(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        busy = Busy()
        await busy.matches(200, a_second=1000)
        busy.gate.answer = lambda ask: Grant((0.002,) * ask.count)
        before, served = busy.given, len(busy.waits)
        await busy.matches(200, a_second=1000)
        assert busy.given - before <= len(busy.waits) - served + 2 * USUAL_SECONDS * 1000
        busy.pump.cancel()

    run_virtually(story)


def test_a_doubted_destination_is_asked_for_permits_by_those_who_wait_alone(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        busy = Busy()
        await busy.matches(200, a_second=1000)
        busy.gate.answer = lambda ask: Grant((0.0,) * ask.count, doubted=True)
        await asyncio.sleep(LATE_SECONDS + 0.001)
        before, served = busy.given, len(busy.waits)
        await busy.matches(200, a_second=1000)
        assert len(busy.waits) - served == 200
        assert busy.given - before <= 200 + 2 * USUAL_SECONDS * 1000
        busy.pump.cancel()

    run_virtually(story)


def test_what_was_at_hand_before_a_destination_was_doubted_is_void(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        busy = Busy()
        await busy.matches(200, a_second=1000)
        busy.gate.answer = lambda ask: Grant((0.0,) * min(ask.count, 1), doubted=True)
        asks, was_at_hand = len(busy.gate.asks), False
        while len(busy.gate.asks) == asks:
            await busy.match()
            was_at_hand = busy.lane._stock.at_hand
            await asyncio.sleep(ROUND_TRIP_SECONDS)
        assert was_at_hand
        await asyncio.sleep(2 * ROUND_TRIP_SECONDS)
        assert not busy.lane._stock.at_hand
        permit = await busy.match()
        assert isinstance(permit, Permit)
        assert permit.doubted
        busy.pump.cancel()

    run_virtually(story)


def test_permits_at_hand_that_are_due_later_serve_those_who_wait_each_at_its_moment(
    run_virtually: RunVirtually,
) -> None:
    async def story() -> None:
        busy = Busy(rate=40)
        busy.gate.answer = lambda ask: Grant(tuple(0.025 * number for number in range(ask.count)))
        for _ in range(5):
            busy.lane.expect()
        await asyncio.sleep(0.005)
        assert [ask.count for ask in busy.gate.asks] == [5]
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(busy.match() for _ in range(5)))
        assert asyncio.get_running_loop().time() - began < 0.11
        assert len(busy.gate.asks) == 1
        busy.pump.cancel()

    run_virtually(story)


@pytest.mark.parametrize("how", ["late", "shut", "relimited"])
def test_a_permit_at_hand_that_is_good_no_more_is_used_by_nobody(run_virtually: RunVirtually, how: str) -> None:
    async def story() -> None:
        busy = Busy()
        await busy.matches(200, a_second=1000)
        assert busy.lane._stock.at_hand
        match how:
            case "late":
                await asyncio.sleep(LATE_SECONDS + 0.001)
            case "shut":
                busy.lane.close(Cause.FULL, 30.0)
                busy.lane.reopen()
            case "relimited":
                busy.lane.relimit(busy.lane.limits)
        asks = len(busy.gate.asks)
        assert isinstance(await busy.match(), Permit)
        assert busy.waits[-1] > 0
        assert len(busy.gate.asks) > asks
        busy.pump.cancel()

    run_virtually(story)


@pytest.mark.parametrize("why", ["waited for", "parked", "no slot", "window"])
def test_a_permit_at_hand_goes_to_nobody_who_is_not_first_or_may_not_call(
    run_virtually: RunVirtually, why: str
) -> None:
    async def story() -> None:
        busy = Busy(slots=3)
        await busy.matches(200, a_second=1000)
        assert busy.lane._stock.at_hand
        taken: list[bool] = []
        match why:
            case "waited for":
                first = Ticket(Priority.NORMAL, (0, 0), (busy.lane,), 1.0)
                busy.lane.join(first)
            case "parked":
                busy.lane.outside.hear("n", {Priority.NORMAL: 3})
            case "no slot":
                taken = [busy.slots.take_one() for _ in range(3)]
            case "window":
                busy.lane._out = busy.lane._window
        assert busy.lane.permit_at_once() is None
        assert busy.slots.free == 3 - len(taken)
        busy.pump.cancel()

    run_virtually(story)


@pytest.mark.parametrize("grant", [Grant((0.0,), probe=True), Grant((0.0,), doubted=True)])
def test_a_probe_and_a_permit_of_a_doubted_destination_are_for_who_waits_alone(
    run_virtually: RunVirtually, grant: Grant
) -> None:
    async def story() -> None:
        busy = Busy()
        busy.gate.answer = lambda _ask: grant
        busy.lane.expect()
        await asyncio.sleep(0.01)
        assert busy.gate.asks
        assert not busy.lane._stock.at_hand
        busy.pump.cancel()

    run_virtually(story)
