"""Deadlines that share one timer: what they are set for ends at its moment, and what was called off does not."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from allocator.deadlines import SLACK_SECONDS, Deadlines
from tests.simulation.virtual_loop import VirtualLoop


@dataclass(eq=False)
class Wait:
    """Something that ends, unless it is called off before."""

    loop: asyncio.AbstractEventLoop
    due_at: float
    ended_at: list[float] = field(default_factory=list)

    def expire(self) -> None:
        self.ended_at.append(self.loop.time())


moments = st.floats(0, 10)


@given(st.lists(st.tuples(moments, moments, st.none() | moments), max_size=20))
def test_each_ends_at_its_moment_unless_it_was_called_off(plans: list[tuple[float, float, float | None]]) -> None:
    loop = VirtualLoop(random.Random(1))
    deadlines, waits = Deadlines(loop), [Wait(loop, set_at + seconds) for set_at, seconds, _ in plans]

    def begin(wait: Wait, called_off_after: float | None) -> None:
        deadlines.set(wait)
        if called_off_after is not None:
            loop.call_later(called_off_after, deadlines.call_off, wait)

    for wait, (set_at, _, called_off_after) in zip(waits, plans, strict=True):
        loop.call_at(set_at, begin, wait, called_off_after)
    loop.run_until_complete(asyncio.sleep(30))
    loop.close()
    for wait, (_, seconds, called_off_after) in zip(waits, plans, strict=True):
        if called_off_after is None or called_off_after > seconds:
            (ended_at,) = wait.ended_at
            assert wait.due_at - SLACK_SECONDS <= ended_at <= wait.due_at + 1e-9
        elif called_off_after < seconds - SLACK_SECONDS:
            assert not wait.ended_at


def test_one_that_sets_another_as_it_ends_and_one_that_calls_another_off_are_heard() -> None:
    loop = VirtualLoop(random.Random(1))
    deadlines = Deadlines(loop)
    later, other = Wait(loop, 2.0), Wait(loop, 1.0)

    class Busy(Wait):
        def expire(self) -> None:
            super().expire()
            deadlines.set(later)
            deadlines.call_off(other)

    first = Busy(loop, 1.0)
    deadlines.set(first)
    deadlines.set(other)
    loop.run_until_complete(asyncio.sleep(5))
    loop.close()
    assert (first.ended_at, later.ended_at, other.ended_at) == ([1.0], [2.0], [])


def test_a_thousand_that_are_called_off_in_time_take_one_timer() -> None:
    timers = list[float]()

    class Counting(VirtualLoop):
        def call_at(self, when: float, *args: object, **options: object) -> asyncio.TimerHandle:
            timers.append(when)
            return super().call_at(when, *args, **options)  # type: ignore[arg-type]  # passed on as they came

    loop = Counting(random.Random(1))
    deadlines = Deadlines(loop)
    for number in range(1000):
        wait = Wait(loop, 8.0 + number)
        deadlines.set(wait)
        deadlines.call_off(wait)
    assert timers == [8.0]
    loop.close()
