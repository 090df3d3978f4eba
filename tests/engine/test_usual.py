"""How long a call takes, as a lane knows it: near the longer ones, forgotten after a while, taught by cut calls too."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import Lane
from allocator.engine.lanes import Lanes
from allocator.engine.line import Line
from allocator.engine.slots import Slots
from allocator.engine.ticket import NoPermit, Permit, Ticket
from allocator.engine.usual import FORGOTTEN_SECONDS, MARGIN, Usual
from allocator.gate.gate import Cause, Limit
from allocator.gate.memory import MemoryGate

if TYPE_CHECKING:
    from tests.conftest import RunVirtually


def a_lane(name: str = "europe") -> Lane:
    chance = random.Random(1)
    limits = (Limit("gameye", "studio", name, 10.0),)
    gate = MemoryGate(probe_hold_seconds=1, chance=chance)
    return Lane(Destination("gameye", name), limits, gate=gate, slots=Slots(9), chance=chance)


def a_ticket(number: int, left_seconds: float, *lanes: Lane, priority: Priority = Priority.NORMAL) -> Ticket:
    deadline_at = lanes[0].loop.time() + left_seconds
    return Ticket(priority, (round(deadline_at * 1000), number), lanes, 60.0, deadline_at=deadline_at)


def test_it_stays_near_what_most_calls_stay_under(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        usual, chance = Usual(asyncio.get_running_loop()), random.Random(1)
        assert usual.needs_seconds == 0
        for _ in range(300):
            usual.took(chance.uniform(0.3, 1.5))
        assert 1.0 * MARGIN < usual.needs_seconds < 1.4 * MARGIN
        for _ in range(100):
            usual.took(0.1)
        assert usual.needs_seconds < 0.2 * MARGIN
        await asyncio.sleep(FORGOTTEN_SECONDS + 0.1)
        assert usual.needs_seconds == 0

    run_virtually(story)


def test_cut_calls_teach_that_more_is_needed_until_one_is_answered(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        usual = Usual(asyncio.get_running_loop())
        tried = 0.05
        for _ in range(12):
            if tried >= 0.5:  # what the host takes
                usual.took(0.5)
                break
            assert usual.was_cut(tried)
            tried = usual.needs_seconds
        assert usual.needs_seconds == 0.5 * MARGIN

    run_virtually(story)


@pytest.mark.parametrize(("usually", "waited", "too_soon"), [(0.0, 0.9, True), (0.0, 1.0, False), (0.8, 1.5, True)])
def test_a_silence_counts_where_the_call_had_its_time(
    run_virtually: RunVirtually, usually: float, waited: float, *, too_soon: bool
) -> None:
    async def story() -> None:
        usual = Usual(asyncio.get_running_loop())
        if usually:
            usual.took(usually)
        needed = usual.needs_seconds
        assert usual.was_cut(waited) is too_soon
        assert (usual.needs_seconds > needed) is too_soon

    run_virtually(story)


@contextlib.asynccontextmanager
async def waiting(*tickets: Ticket) -> AsyncIterator[list[asyncio.Task[Permit | NoPermit]]]:
    """All of them wait, for five seconds at most."""
    waits = [asyncio.ensure_future(each.wait(5)) for each in tickets]
    await asyncio.sleep(0)
    yield waits
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


def test_who_has_too_little_time_left_is_passed_over_for_who_has_enough(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = a_lane()
        lane.usual.took(0.4)
        tickets = [a_ticket(number, left, lane) for number, left in enumerate((0.1, 0.3, 0.9, 2.0))]
        async with waiting(*tickets) as waits:
            line = lane._line
            assert line.next(lane, lane.loop.time() + lane.usual.needs_seconds) is tickets[2]
            assert (lane.waiting, line.count(), line.most_patient()) == (2, 2, tickets[3])
            await asyncio.sleep(4)
            assert [each.done() for each in waits[:2]] == [False, False], "they wait for their time"
            await asyncio.sleep(2)
            assert [each.result() for each in waits[:2]] == [NoPermit.TIME_IS_UP] * 2

    run_virtually(story)


def test_where_all_have_too_little_the_one_with_most_is_tried(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = a_lane()
        tickets = [a_ticket(number, left, lane) for number, left in enumerate((0.1, 0.3, 0.2))]
        async with waiting(*tickets):
            assert lane._line.next(lane, lane.loop.time() + 1) is tickets[1]
            assert lane.waiting == 1, "the others take up no place"
            assert Line().next(lane, 1e9) is None

    run_virtually(story)


@pytest.mark.parametrize(("quickly", "waits_at_the_other"), [(0.1, True), (2.0, False)])
def test_who_is_too_late_for_one_waits_at_a_quicker_one(
    run_virtually: RunVirtually, quickly: float, *, waits_at_the_other: bool
) -> None:
    async def story() -> None:
        slow, other = a_lane("slow"), a_lane("other")
        slow.usual.took(2.0)
        other.usual.took(quickly)
        ticket = a_ticket(0, 0.5, slow, other)
        async with waiting(ticket):
            assert (slow.waiting, other.waiting) == (1, 0)
            assert slow._line.next(slow, slow.loop.time()) is ticket
            ticket.too_late(slow)
            assert (ticket.live, slow.waiting, other.waiting) == (True, 0, int(waits_at_the_other))
        assert (slow.waiting, other.waiting) == (0, 0)

    run_virtually(story)


def test_a_probe_is_for_who_has_most_time(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = a_lane()
        await lane._gate.shut(lane.own, Cause.UNAVAILABLE, 1.0)
        lane.close(Cause.UNAVAILABLE, 1.0)
        tickets = [a_ticket(number, left, lane) for number, left in enumerate((2.0, 60.0, 4.0))]
        pump = asyncio.ensure_future(lane.pump())
        async with waiting(*tickets) as waits:
            await asyncio.sleep(1.6)
            assert [each.done() for each in waits] == [False, True, False]
            permit = waits[1].result()
            assert isinstance(permit, Permit)
            assert permit.probe
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)

    run_virtually(story)


def test_guests_and_hosts_of_a_destination_know_the_same(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        chance = random.Random(1)
        lanes = Lanes(
            gate=MemoryGate(probe_hold_seconds=1, chance=chance),
            concurrency=9,
            limits_of=lambda each: (Limit("gameye", "studio", each.location, 10.0),),
            account_of=lambda _: "studio",
            observe=lambda _: None,
            chance=chance,
            kept_share_of=lambda _: 0.5,
        )
        place = Destination("gameye", "europe")
        guests = lanes.of(place, guest=True)
        lanes.of(place).usual.took(0.8)
        assert guests.usual.needs_seconds == 0.8 * MARGIN
        await lanes.close()

    run_virtually(story)
