"""The process's own cap, on a loop whose time passes in an instant."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from allocator.gate.local import ProcessCap

if TYPE_CHECKING:
    from tests.conftest import RunVirtually


async def sent(cap: ProcessCap, count: int) -> list[float]:
    """The moments at which this many were let through, one after the other."""
    moments = []
    for _ in range(count):
        await cap.acquire()
        moments.append(asyncio.get_running_loop().time())
    return moments


@pytest.mark.parametrize(("rate", "burst", "allowed"), [(20, 1, 20), (7.3, 1, 8), (0.2, 1, 1), (10, 5, 14)])
def test_no_second_holds_more_than_the_rate_and_the_burst(
    run_virtually: RunVirtually, rate: float, burst: int, allowed: int
) -> None:
    async def story() -> None:
        moments = await sent(ProcessCap(rate, burst), allowed * 4)
        for first, after in zip(moments, moments[allowed:], strict=False):
            assert after - first >= 1.0 - 1e-9
        assert moments[-1] == pytest.approx(3.0, abs=1e-3)

    run_virtually(story)


def test_a_rest_gives_the_whole_second_anew(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        cap = ProcessCap(5)
        await sent(cap, 5)
        await asyncio.sleep(1)
        assert await sent(cap, 5) == [1.0] * 5

    run_virtually(story)


@pytest.mark.parametrize("began", [0.1, 0.7, 12_345.678, 1e6 / 3])
def test_it_never_waits_for_ever_on_a_clock_that_rounds(run_virtually: RunVirtually, began: float) -> None:
    async def story() -> None:
        await asyncio.sleep(began)
        cap = ProcessCap(3)
        for _ in range(50):
            await sent(cap, 1)
            await asyncio.sleep(0.1)

    run_virtually(lambda: asyncio.wait_for(story(), began + 60))


def test_one_who_gives_up_leaves_its_turn_to_the_next(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        cap = ProcessCap(1)
        await cap.acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cap.acquire(), 0.5)
        assert await sent(cap, 1) == [pytest.approx(1.0, abs=1e-3)]

    run_virtually(story)
