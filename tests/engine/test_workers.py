"""The workers of several partitions in one process, as one."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest

from allocator.broker.broker import NamespaceTaken
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import Lane
from allocator.engine.observer import BrokerBack, Event, Reconciled
from allocator.engine.slots import Slots
from allocator.engine.workers import Workers, in_turns, summed
from allocator.gate.gate import Limit


class Hand:
    """What `Workers` asks of a worker."""

    def __init__(self, *, fault: Exception | None = None, ready: bool = True) -> None:
        self.ready, self.moving, self.held = ready, True, 3
        self.fault = fault
        self.told = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        try:
            if self.fault is not None:
                raise self.fault
            await self.told.wait()
        finally:
            self.ended = True

    def drain(self) -> None:
        self.told.set()


async def test_a_partition_that_cannot_be_reached_leaves_the_others_ready() -> None:
    hands: list[Any] = [Hand(ready=False), Hand()]
    workers = Workers(hands)
    assert workers.ready
    assert workers.held == 6
    hands[1].ready = False
    assert not workers.ready
    assert workers.moving
    hands[0].moving = False
    assert not workers.moving


async def test_a_drain_ends_all_and_a_fault_of_one_ends_the_others() -> None:
    hands: list[Any] = [Hand(), Hand()]
    workers = Workers(hands)
    workers.drain()
    await asyncio.wait_for(workers.run(), 1)
    bad: list[Any] = [Hand(), Hand(fault=NamespaceTaken("taken"))]
    with pytest.raises(NamespaceTaken):
        await asyncio.wait_for(Workers(bad).run(), 1)
    assert all(hand.ended for hand in bad)


async def test_what_is_done_once_for_the_process_is_done_by_whoever_comes_first() -> None:
    done = 0

    async def act() -> None:
        nonlocal done
        done += 1

    step = in_turns(1000.0, act)
    await asyncio.gather(step(), step(), step())
    assert done == 1
    again = in_turns(-1.0, act)
    await again()
    await again()
    assert done == 3


async def test_what_the_passes_count_is_told_as_one_sum() -> None:
    heard: list[Event] = []
    first, second = summed(heard.append, 2)
    first(Reconciled({"unexplained": 1, "superseded": 0}, 2, {}, passed=True))
    second(Reconciled({"unexplained": 4, "superseded": 5}, 0, {"gameye": "no"}, passed=True))
    first(Reconciled({"unexplained": 0, "superseded": 0}, 0, {}, passed=False))
    second(BrokerBack(1.0))
    assert heard == [
        Reconciled({"unexplained": 1, "superseded": 0}, 2, {}, passed=True),
        Reconciled({"unexplained": 5, "superseded": 5}, 2, {"gameye": "no"}, passed=True),
        Reconciled({"unexplained": 4, "superseded": 5}, 0, {}, passed=False),
        BrokerBack(1.0),
    ]
    assert summed(heard.append, 1) == [heard.append]


async def test_partitions_share_the_room_of_a_lane_by_how_many_wait_in_each() -> None:
    europe, nobody = Destination("gameye", "europe"), cast(Any, None)  # a gate that is not asked
    limit = Limit("gameye", "a", "europe", 100.0)
    lane = Lane(europe, (limit,), gate=nobody, slots=Slots(1), chance=random.Random(1))
    room = lane.calls_in
    assert lane.outside.part("n:0", lane.calls_in) == room  # nobody is known to wait: whoever asks first may call
    lane.outside.hear("n:0", {Priority.NORMAL: 30, Priority.LOW: 0})
    assert lane.outside.part("n:0", lane.calls_in) == room
    assert lane.outside.part("n:1", lane.calls_in) == 0
    lane.outside.hear("n:1", {Priority.HIGH: 10})
    assert lane.outside.parked == {Priority.HIGH: 10, Priority.NORMAL: 30}
    assert lane.outside.part("n:0", lane.calls_in) + lane.outside.part("n:1", lane.calls_in) in {room, room + 1}
    assert lane.outside.part("n:0", lane.calls_in) > lane.outside.part("n:1", lane.calls_in) > 0
    lane.outside.park_one("n:1", Priority.HIGH)
    assert lane.outside.parked[Priority.HIGH] == 11
    lane.outside.hear("n:0", {})
    lane.outside.hear("n:1", {})
    assert not lane.outside.parked
