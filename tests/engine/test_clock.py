"""Durations are counted by a clock that moves within a turn of the loop, and by a virtual one where there is one."""

from __future__ import annotations

import asyncio
import time

import pytest

from allocator.engine.clock import fine_clock
from tests.conftest import RunVirtually


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
