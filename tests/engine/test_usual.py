"""How long a call takes, as a lane knows it: near the longer ones, forgotten after a while, taught by cut calls too."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import Lane
from allocator.engine.line import Line
from allocator.engine.slots import Slots
from allocator.engine.ticket import NoPermit, Ticket
from allocator.engine.usual import FORGOTTEN_SECONDS, MARGIN, Usual
from allocator.gate.gate import Limit
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


def test_who_has_too_little_time_left_is_passed_over_for_who_has_enough(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = a_lane()
        lane.usual.took(0.4)
        tickets = [a_ticket(number, left, lane) for number, left in enumerate((0.1, 0.3, 0.9, 2.0))]
        waits = [asyncio.ensure_future(each.wait(5)) for each in tickets]
        await asyncio.sleep(0)
        line = lane._line
        assert line.next(lane, lane.loop.time() + lane.usual.needs_seconds) is tickets[2]
        assert [await each for each in waits[:2]] == [NoPermit.TOO_LATE] * 2
        assert (lane.waiting, tickets[3].live) == (2, True)
        assert line.most_patient() is tickets[3]
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    run_virtually(story)


def test_where_all_have_too_little_the_one_with_most_is_tried(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        lane = a_lane()
        tickets = [a_ticket(number, left, lane) for number, left in enumerate((0.1, 0.3, 0.2))]
        waits = [asyncio.ensure_future(each.wait(5)) for each in tickets]
        await asyncio.sleep(0)
        assert lane._line.next(lane, lane.loop.time() + 1) is tickets[1]
        assert [each.live for each in tickets] == [False, True, False]
        assert Line().next(lane, 1e9) is None
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    run_virtually(story)


def test_who_is_too_late_for_one_goes_on_to_a_quicker_one(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        slow, quick = a_lane("slow"), a_lane("quick")
        slow.usual.took(2.0)
        quick.usual.took(0.1)
        ticket = a_ticket(0, 0.5, slow, quick)
        waiting = asyncio.ensure_future(ticket.wait(5))
        await asyncio.sleep(0)
        assert (slow.waiting, quick.waiting) == (1, 0)
        ticket.too_late(slow)
        assert (ticket.live, slow.waiting, quick.waiting) == (True, 0, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run_virtually(story)
