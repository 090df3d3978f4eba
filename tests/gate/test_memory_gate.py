"""The twin under any mixture of lanes: no limit ever gives more than its rate in a rolling second."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator.gate.gate import Ask, Cause, Limit
from allocator.gate.memory import MemoryGate

if TYPE_CHECKING:
    from tests.conftest import RunVirtually

ACCOUNT = Limit("gameye", "studio", "*", 50.0, 3)
OWN = tuple(Limit("gameye", "studio", f"region-{rate}", rate) for rate in (5.0, 20.0, 49.0, None))
ASKS = st.lists(
    st.tuples(st.integers(0, len(OWN) - 1), st.integers(1, 9), st.sampled_from((0.0, 0.001, 0.013, 0.05, 0.3))),
    min_size=50,
    max_size=150,
)


@given(asks=ASKS)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_mixture_of_lanes_exceeds_any_rate(run_virtually: RunVirtually, asks: list[tuple[int, int, float]]) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        gate = MemoryGate(probe_hold_seconds=10, chance=random.Random(1))
        moments: dict[Limit, list[float]] = {limit: [] for limit in (ACCOUNT, *OWN)}
        for own, count, pause in asks:
            grant = await gate.permits(Ask((OWN[own], ACCOUNT), count))
            given = [loop.time() + offset for offset in grant.offsets_seconds]
            moments[OWN[own]] += given
            moments[ACCOUNT] += given
            await asyncio.sleep(pause)
        for limit, given in moments.items():
            if limit.rate:
                allowed = round(limit.rate) + limit.burst - 1
                given.sort()
                for first, after in zip(given, given[allowed:], strict=False):
                    assert after - first >= 1.0 - 1e-6, limit

    run_virtually(story)


def test_waiting_as_told_always_ends_in_a_permit(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        gate = MemoryGate(probe_hold_seconds=10, chance=random.Random(1))
        await asyncio.sleep(1 / 3)
        await gate.shut(OWN[1], Cause.FULL, None)
        for _ in range(200):
            grant = await gate.permits(Ask((OWN[1], ACCOUNT), 2))
            for _ in range(3):
                if grant.offsets_seconds:
                    break
                await asyncio.sleep(grant.wait_seconds)
                grant = await gate.permits(Ask((OWN[1], ACCOUNT), 2))
            assert grant.offsets_seconds
            if grant.probe:
                await gate.open([OWN[1]])

    run_virtually(story)
