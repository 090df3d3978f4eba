"""A lane that is told who is about to join asks for the permit meanwhile, and keeps nothing that nobody uses."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.lane import SPARE_RATE, Lane
from allocator.engine.progress import LATE_SECONDS
from allocator.engine.slots import Slots
from allocator.engine.ticket import NoPermit, Permit, Ticket
from allocator.gate.gate import Ask, Cause, Grant, Limit
from tests.engine.test_lanes import MakeLane, StubGate, make_lane

if TYPE_CHECKING:
    from tests.conftest import RunVirtually, WaitUntil
    from tests.engine.conftest import Fleet

__all__ = ["make_lane"]
LIMIT = Limit("gameye", "studio", "europe", None)


def ticket(lane: Lane, number: int = 0, priority: Priority = Priority.NORMAL) -> Ticket:
    return Ticket(priority, (0, number), (lane,), 5.0)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_permit_is_there_before_the_one_it_is_for(make_lane: MakeLane) -> None:
    gate, slots = StubGate(), Slots(10)
    lane = make_lane(gate, slots=slots)
    lane.expect()
    await turns()
    assert [ask.count for ask in gate.asks] == [1]
    permit = await ticket(lane).wait(1.0)
    assert isinstance(permit, Permit)
    assert len(gate.asks) == 1
    permit.lane.finish(served=True)
    assert slots.free == 10


async def test_one_that_joins_while_the_gate_is_asked_is_not_asked_for_twice(make_lane: MakeLane) -> None:
    gate = StubGate()
    lane = make_lane(gate)
    lane.expect()
    waits = asyncio.create_task(ticket(lane).wait(1.0))
    await turns()
    assert isinstance(await waits, Permit)
    assert [ask.count for ask in gate.asks] == [1]


async def test_whoever_joins_first_has_it_and_those_who_wait_then_have_theirs_in_their_order(
    make_lane: MakeLane,
) -> None:
    gate = StubGate()
    lane = make_lane(gate)
    lane.expect()
    await turns()
    served: list[Any] = []

    async def wait(name: str, number: int, priority: Priority) -> None:
        assert isinstance(await ticket(lane, number, priority).wait(1.0), Permit)
        served.append(name)

    normal, high = Priority.NORMAL, Priority.HIGH
    await asyncio.gather(wait("first", 0, normal), wait("normal", 1, normal), wait("high", 2, high))
    assert served == ["first", "high", "normal"]


async def test_a_permit_that_nobody_comes_for_holds_no_slot_and_is_let_go(make_lane: MakeLane) -> None:
    gate, slots = StubGate(), Slots(1)
    lane = make_lane(gate, slots=slots)
    lane.expect()
    await turns()
    assert (slots.free, lane._expected) == (1, 0)
    await asyncio.sleep(LATE_SECONDS + 0.01)
    assert isinstance(await ticket(lane).wait(1.0), Permit)
    assert len(gate.asks) == 2


async def test_a_lane_that_shuts_meanwhile_gives_it_to_nobody(make_lane: MakeLane) -> None:
    lane = make_lane(StubGate())
    lane.expect()
    await turns()
    lane.close(Cause.FULL, 30.0)
    assert await ticket(lane).wait(0.1) is NoPermit.TIME_IS_UP


@pytest.mark.parametrize("why", ["rate", "shut", "waited for", "parked"])
async def test_nothing_is_asked_for_ahead_where_it_would_be_dear_or_anothers(make_lane: MakeLane, why: str) -> None:
    gate = StubGate()
    gate.open_now.clear()
    lane = make_lane(gate, rate=SPARE_RATE / 2 if why == "rate" else None)
    waits: list[asyncio.Task[Any]] = []
    match why:
        case "shut":
            lane.close(Cause.FULL, 30.0)
        case "parked":
            lane.outside.hear("n", {Priority.NORMAL: 3})
        case "waited for":
            waits.append(asyncio.create_task(ticket(lane).wait(0.05)))
            await turns()
    before = len(gate.asks)
    lane.expect()
    await turns()
    assert lane._expected == 0
    assert len(gate.asks) == before
    await asyncio.gather(*waits)


class SlowGate(StubGate):
    """Answers as late as the test says."""

    seconds = 0.0

    async def permits(self, ask: Ask) -> Grant:
        await asyncio.sleep(self.seconds)
        return await super().permits(ask)


def test_permits_of_a_reply_that_was_held_up_are_void_and_those_of_a_slow_redis_are_not(
    run_virtually: RunVirtually,
) -> None:
    async def story() -> None:
        gate = SlowGate(lambda _: Grant((0.0,)))
        lane = Lane(Destination("gameye", "europe"), (LIMIT,), gate=gate, slots=Slots(9), chance=random.Random(1))
        pump = asyncio.create_task(lane.pump())

        async def asks_for_one() -> int:
            before = len(gate.asks)
            assert isinstance(await ticket(lane).wait(60.0), Permit)
            lane.finish(served=True)
            return len(gate.asks) - before

        assert await asks_for_one() == 1
        gate.seconds = 0.5
        assert await asks_for_one() > 1
        assert [await asks_for_one() for _ in range(12)][-4:] == [1, 1, 1, 1]
        pump.cancel()

    run_virtually(story)


async def test_the_permit_of_a_lone_match_is_asked_for_while_it_is_reserved(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    broker, gate = member.parts.broker, member.parts.gate
    reserve, permits, asked = broker.reserve, gate.permits, asyncio.Event()

    async def reserve_once_asked(asks: Any) -> Any:
        await asyncio.wait_for(asked.wait(), 5)
        return await reserve(asks)

    async def permits_asked(ask: Ask) -> Grant:
        asked.set()
        return await permits(ask)

    monkeypatch.setattr(broker, "reserve", reserve_once_asked)
    monkeypatch.setattr(gate, "permits", permits_asked)
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    assert answer["state"] == "allocated"
    assert fleet.posts() == 1


async def test_where_matches_come_one_by_one_the_streams_are_read_once_for_each(
    fleet: Fleet, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await fleet.send(id="first")
    await fleet.ended("first")
    await wait_until(lambda: member.worker._intake._is_quiet)
    monkeypatch.delattr(type(member.parts.broker), "take")
    await fleet.send(id="second")
    (answer,) = await fleet.ended("second")
    assert answer["state"] == "allocated"
