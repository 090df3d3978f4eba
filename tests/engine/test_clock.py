"""Durations are counted by a clock that moves within a turn of the loop, and by a virtual one where there is one."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from allocator.contract.request import Priority
from allocator.engine import ticket
from allocator.engine.clock import fine_clock
from allocator.engine.observer import Attempted, Finished
from allocator.engine.ticket import Permit, Ticket
from tests.conftest import RunVirtually

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

STEP_SECONDS = 0.0004
"""What passes between two readings of a clock that moves by being read: less than uvloop's own counts."""


def test_what_takes_part_of_a_turn_is_counted_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def story() -> float:
        now = fine_clock(asyncio.get_running_loop())
        since = now()
        time.sleep(0.0015)  # noqa: ASYNC251 - the turn is to last
        return now() - since

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(story()) >= 0.0015


def test_virtual_time_is_kept_to(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        now = fine_clock(asyncio.get_running_loop())
        since = now()
        await asyncio.sleep(3600)
        assert now() - since == pytest.approx(3600)

    run_virtually(story)


async def test_a_match_is_timed_by_the_fine_clock(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin()
    member = await fleet.worker()
    readings = itertools.count()
    member.parts.now = lambda: next(readings) * STEP_SECONDS
    await fleet.send(id="m-1", regions=["europe"])
    (answer,) = await fleet.ended("m-1")
    (attempt,) = json.loads(answer["attempts"])
    await wait_until(lambda: member.seen(Finished))
    (attempted,), (finished,) = member.seen(Attempted), member.seen(Finished)
    assert attempt["duration_ms"] == 1000 * STEP_SECONDS
    assert attempted.provider_seconds == pytest.approx(STEP_SECONDS)
    assert (finished.provider_seconds, finished.commit_seconds) == pytest.approx((STEP_SECONDS, STEP_SECONDS))


async def test_a_wait_for_a_permit_is_timed_by_the_fine_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = itertools.count()
    monkeypatch.setattr(ticket, "fine_clock", lambda _loop: lambda: next(readings) * STEP_SECONDS)
    lane = cast("Any", SimpleNamespace(loop=asyncio.get_running_loop()))
    waiting = Ticket(Priority.NORMAL, (0, 1), (lane,), 1.0)
    waiting.serve(lane, probe=False, doubted=False)
    permit = waiting.future.result()
    assert isinstance(permit, Permit)
    assert permit.waited_seconds == pytest.approx(STEP_SECONDS)
