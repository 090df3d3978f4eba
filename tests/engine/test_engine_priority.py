"""Who is served first where a region cannot serve all: by priority, the low ones never standing still, by deadline."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from allocator.contract.request import Priority
from allocator.engine.lane import SHUT_ROOM
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

LONG = os.environ.get("LONG_TESTS") == "1"
LOWS, HIGHS = (1000, 50) if LONG else (100, 10)
OPEN = RegionSettings()
SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=0.5))


async def in_order_of_answer(fleet: Fleet, ids: list[str], seconds: float = 12.0) -> list[str]:
    answers = await fleet.ended(*ids, seconds=seconds)
    assert {each["state"] for each in answers} == {"allocated"}
    return [each["request_id"] for each in sorted(answers, key=lambda each: int(each["allocated_at"]))]


async def test_every_high_match_is_answered_before_nearly_all_low_ones_that_came_before_it(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"europe": OPEN})
    for _ in range(2):
        await fleet.worker(rates={"europe": 20})
    lows = await fleet.send_many(LOWS, "low", Priority.LOW, timeout_seconds=300)
    await wait_until(lambda: fleet.posts() >= 3)
    await fleet.waiting_outside(LOWS - 2 * 45)
    highs = await fleet.send_many(HIGHS, "high", Priority.HIGH, timeout_seconds=300)
    order = await in_order_of_answer(fleet, lows + highs, seconds=(LOWS + HIGHS) / 20 + 6)
    last_high = max(turn for turn, name in enumerate(order) if name.startswith("high"))
    lows_before = sum(name.startswith("low") for name in order[:last_high])
    fleet.measured(f"{lows_before} of {LOWS} low ones were answered before the last of {HIGHS} high ones")
    if LONG:
        assert lows_before <= 0.05 * LOWS
    else:
        # 5 % of a hundred are five: those already called, those whose turn it was, and one in ten from there on
        assert lows_before <= 0.25 * LOWS


async def test_low_matches_never_stand_still_beside_high_ones_however_many(fleet: Fleet) -> None:
    await fleet.begin({"europe": OPEN})
    await fleet.worker(rates={"europe": 40})
    highs = await fleet.send_many(120, "high", Priority.HIGH)
    lows = await fleet.send_many(30, "low", Priority.LOW)
    order = await in_order_of_answer(fleet, highs + lows)
    turns = [turn for turn, name in enumerate(order) if name.startswith("low")]
    last_high = max(turn for turn, name in enumerate(order) if name.startswith("high"))
    among = [turn for turn in turns if turn < last_high]
    fleet.measured(f"answers to low ones among the high ones: {among}")
    # one permit in ten, and two answers may change places
    assert all(later - earlier <= 13 for earlier, later in pairwise([0, *among, last_high]))


async def test_low_matches_are_served_beside_high_ones_that_come_as_fast_as_they_are_served(fleet: Fleet) -> None:
    await fleet.begin({"europe": OPEN})
    await fleet.worker(rates={"europe": 20})
    highs = await fleet.send_many(39, "high", Priority.HIGH)
    lows = await fleet.send_many(20, "low", Priority.LOW)
    for number in range(39, 119):
        # as many as are served: the lane is never half empty, and no high one is parked
        await asyncio.sleep(1 / 20)
        highs += [await fleet.send(Priority.HIGH, id=f"high-{number}") and f"high-{number}"]
    served = Counter(each["priority"] for each in await fleet.answers(highs + lows) if each.get("final") == "1")
    fleet.measured(f"while high ones keep coming, {served}")
    assert served["low"] >= served["high"] // 10 - 2
    await fleet.ended(*highs, *lows)


async def test_the_nearest_deadline_is_served_first_within_a_priority(fleet: Fleet) -> None:
    await fleet.begin({"europe": OPEN})
    member = await fleet.worker(rates={"europe": 40})
    # they fill the lane's two seconds only in part, so that all wait in one place
    ids = []
    for number in range(60):
        ids.append(f"m-{number}")
        await fleet.send(id=ids[-1], timeout_seconds=200 - number)
    order = await in_order_of_answer(fleet, ids)
    assert member.worker.held == 0
    numbers = [int(name.split("-")[1]) for name in order]
    # the first were called before the others came
    late = numbers[12:]
    displaced = [abs(place - rank) for rank, place in enumerate(sorted(range(len(late)), key=lambda at: -late[at]))]
    assert max(displaced) <= 4, numbers


async def test_who_comes_anew_does_not_overtake_those_who_are_parked(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": SHUT})
    member = await fleet.worker(rates={"europe": 60})
    # more than a lane holds, so that some are parked for as long as it takes the others to come
    before = await fleet.send_many(200, "before", timeout_seconds=60)
    await fleet.waiting_outside(200 - 2 * SHUT_ROOM)
    await wait_until(lambda: member.worker.held <= SHUT_ROOM)
    fleet.apply({"europe": OPEN})
    await wait_until(lambda: fleet.alive() and member.lanes()[0].cause is None)
    after = await fleet.send_many(40, "after", timeout_seconds=60)
    order = await in_order_of_answer(fleet, before + after)
    overtaken = sum(name.startswith("after") for name in order[:190])
    assert overtaken <= 3, order
