"""A lane, its tickets and the slots: who is served when, and that nothing is kept that is not used."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine import lane as lane_module
from allocator.engine.lane import FIRST_WINDOW, Lane
from allocator.engine.slots import Slots
from allocator.engine.ticket import NoPermit, Permit, Ticket
from allocator.gate.gate import Ask, Cause, GateUnavailable, Grant, Limit, LimitState, Verdict

ONE = Grant((0.0,))


class StubGate:
    """Answers as the test says; `asks` holds every ask."""

    def __init__(self, answer: Callable[[Ask], Grant] = lambda ask: Grant((0.0,) * ask.count)) -> None:
        self.answer = answer
        self.asks: list[Ask] = []
        self.open_now = asyncio.Event()
        self.open_now.set()

    async def permits(self, ask: Ask) -> Grant:
        self.asks.append(ask)
        await asyncio.sleep(0)
        await self.open_now.wait()
        return self.answer(ask)

    async def shut(self, limit: Limit, cause: Cause, retry_after_seconds: float | None) -> float:
        raise AssertionError(f"a lane shuts nothing: {limit}, {cause}, {retry_after_seconds}")

    async def open(self, limits: Sequence[Limit]) -> None:
        raise AssertionError(f"a lane opens nothing: {limits}")

    async def doubt(self, limit: Limit, *, probe: bool = False) -> float:
        raise AssertionError(f"a lane doubts nothing: {limit}, {probe}")

    async def slow(self, limit: Limit, begun_seconds_ago: float) -> float:
        raise AssertionError(f"a lane slows nothing: {limit}, {begun_seconds_ago}")

    async def verdict(self, limit: Limit) -> Verdict:
        raise AssertionError(f"a lane asks what nobody said: {limit}")

    async def judge(self, limit: Limit, verdict: Verdict) -> None:
        raise AssertionError(f"a lane judges nothing: {limit}, {verdict}")

    async def may_repeat(self, account: Limit, first_attempts: int) -> bool:
        raise AssertionError(f"a lane repeats nothing: {account}, {first_attempts}")

    async def states(self, limits: Sequence[Limit]) -> list[LimitState]:
        raise AssertionError(f"a lane looks at nothing: {limits}")


MakeLane = Callable[..., Lane]


@pytest.fixture
async def make_lane() -> AsyncIterator[MakeLane]:
    pumps: list[asyncio.Task[None]] = []

    def make(gate: StubGate, *, name: str = "europe", rate: float | None = None, slots: Slots | None = None) -> Lane:
        limits = (Limit("gameye", "studio", name, rate),)
        shared = slots or Slots(1000)
        lane = Lane(Destination("gameye", name), limits, gate=gate, slots=shared, chance=random.Random(1))
        pumps.append(asyncio.ensure_future(lane.pump()))
        return lane

    yield make
    for pump in pumps:
        pump.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)


async def wait_and_finish(ticket: Ticket, name: Any, order: list[Any], seconds: float = 5.0) -> None:
    permit = await ticket.wait(seconds)
    if isinstance(permit, Permit):
        order.append(name)
        permit.lane.finish(served=True)


def start(lane: Lane, priority: Priority, rank: tuple[int, int], order: list[Any]) -> asyncio.Task[None]:
    ticket = Ticket(priority, rank, (lane,), 1.0)
    return asyncio.ensure_future(wait_and_finish(ticket, (priority, rank), order))


@pytest.mark.parametrize("waiting", [list(Priority), [Priority.NORMAL, Priority.LOW], [Priority.HIGH, Priority.LOW]])
async def test_of_ten_permits_one_at_least_goes_to_the_lowest(make_lane: MakeLane, waiting: list[Priority]) -> None:
    gate = StubGate(lambda _ask: ONE)
    gate.open_now.clear()
    lane = make_lane(gate)
    order: list[Any] = []
    tasks = [start(lane, priority, (number, number), order) for number in range(100) for priority in waiting]
    await asyncio.sleep(0)
    gate.open_now.set()
    await asyncio.gather(*tasks)
    served = [priority for priority, _ in order]
    for begin in range(0, 100, 10):
        assert served[begin : begin + 10].count(waiting[-1]) == 1
        assert served[begin : begin + 10].count(waiting[0]) >= 8
    for priority in waiting:
        ranks = [rank for each, rank in order if each is priority]
        assert ranks == sorted(ranks)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 5)), min_size=1, max_size=60))
def test_within_a_priority_the_nearest_deadline_is_first_then_who_came_first(asks: list[tuple[Priority, int]]) -> None:
    async def serve() -> list[Any]:
        gate, order = StubGate(lambda _ask: ONE), list[Any]()
        gate.open_now.clear()
        limits = (Limit("gameye", "studio", "europe", None),)
        lane = Lane(Destination("gameye", "x"), limits, gate=gate, slots=Slots(9), chance=random.Random(1))
        pump = asyncio.ensure_future(lane.pump())
        tasks = [start(lane, priority, (deadline, n), order) for n, (priority, deadline) in enumerate(asks)]
        await asyncio.sleep(0)
        gate.open_now.set()
        await asyncio.gather(*tasks)
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        assert (lane._out, lane.waiting, lane._held, lane._slots.free) == (0, 0, 0, 9)
        return order

    order = asyncio.run(serve())
    assert len(order) == len(asks)
    for priority in Priority:
        ranks = [rank for each, rank in order if each is priority]
        assert ranks == sorted(ranks)


async def test_a_slow_lane_with_a_long_queue_leaves_the_slots_to_the_others(make_lane: MakeLane) -> None:
    slots = Slots(4)
    slow = make_lane(StubGate(lambda _ask: Grant((0.05,))), name="slow", slots=slots)
    quick = make_lane(StubGate(), name="quick", slots=slots)
    slow_order: list[Any] = []
    quick_order: list[Any] = []
    waiting = [start(slow, Priority.NORMAL, (0, number), slow_order) for number in range(200)]
    await asyncio.gather(*(start(quick, Priority.NORMAL, (0, number), quick_order) for number in range(60)))
    assert len(slow_order) <= 4
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_shut_lane_sees_at_most_its_first_window_of_calls(make_lane: MakeLane) -> None:
    lane = make_lane(StubGate())
    tickets = [Ticket(Priority.NORMAL, (0, number), (lane,), 1.0) for number in range(200)]
    tasks = [asyncio.ensure_future(ticket.wait(5)) for ticket in tickets]
    for _ in range(50):
        await asyncio.sleep(0)
    permits = [task.result() for task in tasks if task.done()]
    assert len(permits) == FIRST_WINDOW
    lane.close(Cause.FULL, 60)
    for permit in permits:
        assert isinstance(permit, Permit)
        permit.lane.finish(served=False)
    for _ in range(50):
        await asyncio.sleep(0)
    assert sum(task.done() for task in tasks) == FIRST_WINDOW
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (lane._out, lane.waiting) == (0, 0)


async def test_a_grant_asked_for_before_the_lane_shut_does_not_open_it(make_lane: MakeLane, wait_until: Any) -> None:
    gate = StubGate()
    gate.open_now.clear()
    lane = make_lane(gate)
    waiting = asyncio.ensure_future(Ticket(Priority.NORMAL, (0, 0), (lane,), 1.0).wait(0.1))
    await wait_until(lambda: gate.asks)
    lane.close(Cause.FULL, 30)
    gate.answer = lambda _ask: Grant((0.0,)) if len(gate.asks) == 1 else Grant(closed=Cause.FULL, wait_seconds=30)
    gate.open_now.set()
    assert await waiting is NoPermit.TIME_IS_UP
    assert lane.cause is Cause.FULL


async def test_a_lane_that_a_probe_opens_serves_at_once_who_waits_in_it(make_lane: MakeLane, wait_until: Any) -> None:
    gate = StubGate(lambda _ask: Grant((0.0,), probe=True))
    lane = make_lane(gate)
    lane.close(Cause.FULL, 0.0)
    first, *rest = [asyncio.ensure_future(Ticket(Priority.NORMAL, (0, n), (lane,), 1.0).wait(5)) for n in range(5)]
    gate.answer = lambda _ask: (
        Grant((0.0,), probe=True) if len(gate.asks) == 1 else Grant(closed=Cause.FULL, wait_seconds=60)
    )
    permit = await first
    assert isinstance(permit, Permit)
    assert permit.probe
    await wait_until(lambda: len(gate.asks) >= 2)
    assert not any(task.done() for task in rest)
    gate.answer = lambda ask: Grant((0.0,) * ask.count)
    lane.reopen()
    permit.lane.finish(served=True)
    async with asyncio.timeout(0.3):
        permits = await asyncio.gather(*rest)
    assert not any(each.probe for each in permits if isinstance(each, Permit))


async def test_a_lane_that_another_process_opened_serves_soon(
    make_lane: MakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "RECHECK_SECONDS", 0.02)
    gate = StubGate(lambda _ask: Grant(closed=Cause.FULL, wait_seconds=60) if len(gate.asks) < 4 else ONE)
    lane = make_lane(gate)
    async with asyncio.timeout(2):
        permit = await Ticket(Priority.NORMAL, (0, 0), (lane,), 1.0).wait(5)
    assert isinstance(permit, Permit)
    assert lane.cause is None


async def test_a_probe_that_nobody_was_there_to_use_serves_the_next_who_comes(
    make_lane: MakeLane, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "RECHECK_SECONDS", 0.02)
    gate = StubGate()
    gate.open_now.clear()
    lane = make_lane(gate)
    lane.close(Cause.FULL, 0.0)
    gone = asyncio.ensure_future(Ticket(Priority.NORMAL, (0, 0), (lane,), 1.0).wait(5))
    await wait_until(lambda: gate.asks)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    gate.answer = lambda _ask: (
        Grant((0.0,), probe=True) if len(gate.asks) == 1 else Grant(closed=Cause.FULL, wait_seconds=60)
    )
    gate.open_now.set()
    async with asyncio.timeout(2):
        permit = await Ticket(Priority.NORMAL, (0, 1), (lane,), 1.0).wait(5)
    assert isinstance(permit, Permit)
    assert permit.probe


async def test_a_gate_that_is_away_gives_nothing_and_is_asked_again(make_lane: MakeLane) -> None:
    def away(ask: Ask) -> Grant:
        if len(gate.asks) < 3:
            raise GateUnavailable("away")
        return Grant((0.0,) * ask.count)

    gate = StubGate(away)
    lane = make_lane(gate)
    async with asyncio.timeout(2):
        assert await Ticket(Priority.NORMAL, (0, 0), (lane,), 1.0).wait(5) is not NoPermit.TIME_IS_UP


async def test_a_ticket_goes_on_when_its_lane_shuts_and_stays_in_all_it_has_joined(make_lane: MakeLane) -> None:
    closed = StubGate()
    closed.open_now.clear()
    lanes = [make_lane(closed, name=name) for name in ("a", "b", "c")]
    ticket = Ticket(Priority.NORMAL, (0, 0), lanes, 60.0)
    waiting = asyncio.ensure_future(ticket.wait(5))
    await asyncio.sleep(0)
    assert [lane.waiting for lane in lanes] == [1, 0, 0]
    lanes[0].close(Cause.FULL, 60)
    assert [lane.waiting for lane in lanes] == [1, 1, 0]
    lanes[2].close(Cause.FULL, 60)
    lanes[1].close(Cause.FULL, 60)
    assert [lane.waiting for lane in lanes] == [1, 1, 1]
    ticket.serve(lanes[0], probe=True, doubted=False)
    lanes[0]._out += 1
    permit = await waiting
    assert isinstance(permit, Permit)
    assert permit.lane is lanes[0]
    assert [lane.waiting for lane in lanes] == [0, 0, 0]


async def test_the_wait_in_a_lane_is_counted_from_when_it_was_joined(make_lane: MakeLane, wait_until: Any) -> None:
    closed = StubGate()
    closed.open_now.clear()
    lanes = [make_lane(closed, name=name) for name in ("a", "b", "c")]
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(Ticket(Priority.NORMAL, (0, 0), lanes, 0.3).wait(5))
    await asyncio.sleep(0)
    began = loop.time()
    await wait_until(lambda: loop.time() >= began + 0.2)
    lanes[0].close(Cause.FULL, 60)
    joined = loop.time()
    await wait_until(lambda: lanes[2].waiting)
    assert loop.time() - joined >= 0.29
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_permit_that_comes_with_a_cancellation_goes_back(make_lane: MakeLane, wait_until: Any) -> None:
    gate = StubGate()
    slots = Slots(3)
    lane = make_lane(gate, slots=slots)
    ticket = Ticket(Priority.NORMAL, (0, 0), (lane,), 1.0)
    ticket.future.add_done_callback(lambda _future: waiting.cancel())  # comes before the ticket hears of its permit
    waiting = asyncio.ensure_future(ticket.wait(5))
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert lane._window == FIRST_WINDOW
    await wait_until(lambda: (lane._out, lane.waiting, slots.free) == (0, 0, 3))


async def test_a_wait_ends_without_a_permit_at_its_deadline(make_lane: MakeLane) -> None:
    gate = StubGate()
    gate.open_now.clear()
    lane = make_lane(gate)
    assert await Ticket(Priority.NORMAL, (0, 0), (lane,), 1.0).wait(0.02) is NoPermit.TIME_IS_UP
    assert lane.waiting == 0


async def test_tickets_that_went_elsewhere_are_swept_out_of_a_long_queue(make_lane: MakeLane) -> None:
    gate = StubGate()
    gate.open_now.clear()
    lane = make_lane(gate)
    tasks = [asyncio.ensure_future(Ticket(Priority.LOW, (0, n), (lane,), 1.0).wait(5)) for n in range(500)]
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert lane._line._stored <= 64 + 2
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)


async def test_slots_go_to_those_who_wait_in_turn_and_nobody_comes_between() -> None:
    slots, order = Slots(1), list[str]()
    assert await slots.acquire(1) == 1

    async def take(name: str) -> None:
        await slots.acquire(1)
        order.append(name)

    tasks = [asyncio.ensure_future(take(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    slots.release(1)
    tasks.append(asyncio.ensure_future(take("late")))
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["first"]
    slots.release(2)
    await asyncio.gather(*tasks)
    assert order == ["first", "second", "late"]
    assert slots.free == 0


async def test_many_slots_given_back_at_once_wake_all_who_can_use_them() -> None:
    slots = Slots(3)
    assert await slots.acquire(9) == 3
    waiting = [asyncio.ensure_future(slots.acquire(1)) for _ in range(3)]
    await asyncio.sleep(0)
    slots.release(3)
    async with asyncio.timeout(1):
        assert await asyncio.gather(*waiting) == [1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["acquire", "release", "cancel"]), st.integers(1, 5)), max_size=60))
def test_slots_are_never_lost_nor_given_twice(steps: list[tuple[str, int]]) -> None:
    async def walk() -> None:
        total, slots, tasks = 5, Slots(5), list[asyncio.Future[int]]()
        released = 0
        for step, count in steps:
            taken = sum(task.result() for task in tasks if task.done() and not task.cancelled())
            if step == "acquire":
                tasks.append(asyncio.ensure_future(slots.acquire(count)))
            elif step == "cancel" and tasks:
                tasks[count % len(tasks)].cancel()
            elif step == "release" and taken - released > 0:
                back = min(count, taken - released)
                released += back
                slots.release(back)
            if count % 2:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        taken = sum(task.result() for task in tasks if task.done() and not task.cancelled())
        assert slots.free + taken - released == total
        assert slots.free == 0 or all(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(walk())


async def test_a_lane_that_is_shut_is_held_back_while_some_wait_there(make_lane: MakeLane) -> None:
    lane = make_lane(StubGate())
    lane.close(Cause.FULL, 30.0)
    assert not lane.held_back
    waiting = start(lane, Priority.NORMAL, (0, 1), [])
    await asyncio.sleep(0)  # the task joins the lane
    assert lane.held_back
    lane.reopen()
    await waiting
    assert not lane.held_back
