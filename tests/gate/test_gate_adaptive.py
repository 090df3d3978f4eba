"""What every gate promises of a rate that turned out too fast; the twin finds a hidden limit in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.gate.adaptive import CLIMB_SECONDS
from allocator.gate.gate import PACE, Gate, Limit
from allocator.gate.memory import MemoryGate
from allocator.simulator.gameye.settings import RegionSettings
from allocator.simulator.limits import StartLimit
from tests.gate.limits import once

if TYPE_CHECKING:
    from tests.conftest import RunVirtually
    from tests.gate.conftest import Gatehouse

EUROPE = Limit("gameye", "studio", "europe", 200.0)
ACCOUNT = Limit("gameye", "studio", "*", 400.0)


async def rate_of(gate: Gate, limit: Limit = EUROPE) -> float:
    """The rate that a grant tells, and a person sees."""
    rate = (await once(gate, limit)).rate
    assert rate is not None
    assert (await gate.states([limit]))[0].rate == pytest.approx(rate, abs=0.001)
    return rate


class Promises:
    async def test_a_call_that_came_too_fast_lowers_the_rate_for_the_fleet(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        assert await rate_of(first) == 200
        assert await first.slow(EUROPE, 0.15) == pytest.approx(180, abs=0.01)
        assert await rate_of(second) == pytest.approx(180, abs=0.01)
        assert (await once(second, replace(EUROPE, scope="us"), EUROPE)).rate == 200
        grant = await once(second, EUROPE, count=50)
        gaps = [after - before for before, after in zip(grant.offsets_seconds, grant.offsets_seconds[1:], strict=False)]
        assert gaps == pytest.approx([1 / (180 * PACE)] * len(gaps), abs=1e-5)
        assert len(gaps) > 10

    async def test_calls_begun_before_the_last_lowering_come_too_late_to_count(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        lowered = await first.slow(EUROPE, 0.15)
        await house.pass_seconds(0.1)
        for gate in (first, second) * 10:
            assert await gate.slow(EUROPE, 0.11) == pytest.approx(lowered, rel=0.01)
        assert await second.slow(EUROPE, 0.09) == pytest.approx(0.9 * lowered, rel=0.01)

    async def test_a_rate_climbs_back_by_itself_and_is_forgotten_at_the_top(self, house: Gatehouse) -> None:
        gate = house.gate()
        for _ in range(10):
            await gate.slow(EUROPE, 0)
            await house.pass_seconds(0.2)
        too_fast = (await gate.slow(EUROPE, 0)) / 0.9
        seen = [await rate_of(gate)]
        for _ in range(8):
            await house.pass_seconds(CLIMB_SECONDS / 4)
            seen.append(await rate_of(gate))
        assert seen == sorted(seen)
        assert seen[0] == pytest.approx(0.9 * too_fast, rel=0.001)
        assert seen[2] == pytest.approx((1 - 0.1 / 8) * too_fast, rel=0.001)
        assert seen[4] == pytest.approx(too_fast, rel=0.001)
        assert seen[8] == pytest.approx(1.1 * too_fast, rel=0.001)
        await house.pass_seconds(CLIMB_SECONDS * 3)
        assert await rate_of(gate) == 200
        assert await gate.slow(EUROPE, 0.1) == pytest.approx(180, abs=0.01)

    @pytest.mark.parametrize(("whole", "least"), [(200.0, 1.0), (1.5, 1.0), (0.5, 0.5)])
    async def test_no_rate_goes_under_one_a_second_or_over_its_own(
        self, house: Gatehouse, whole: float, least: float
    ) -> None:
        gate, limit = house.gate(), replace(EUROPE, rate=whole)
        for _ in range(100):
            await house.pass_seconds(0.001)
            told = await gate.slow(limit, 0)
        assert told == pytest.approx(least, abs=0.001)
        assert await rate_of(gate, limit) == pytest.approx(least, abs=0.001)
        assert await rate_of(gate, replace(limit, rate=0.25)) == 0.25

    async def test_a_limit_without_a_rate_has_none_to_lower(self, house: Gatehouse) -> None:
        gate, unlimited = house.gate(), replace(EUROPE, rate=None)
        assert await gate.slow(unlimited, 0.1) == math.inf
        grant = await once(gate, unlimited, ACCOUNT, count=2)
        assert (len(grant.offsets_seconds), grant.rate) == (2, None)

    async def test_the_accounts_rate_is_lowered_like_any_other(self, house: Gatehouse) -> None:
        gate, slow = house.gate(), replace(ACCOUNT, rate=10.0)
        assert await gate.slow(slow, 0) == pytest.approx(9.0)
        assert (await once(gate, EUROPE, slow)).rate == 200
        gap = (await once(gate, EUROPE, slow, count=2)).wait_seconds
        assert gap == pytest.approx(1.02 / (9 * PACE) - 0.02, abs=1e-4)

    async def test_a_burst_that_is_used_up_stays_so_at_a_lower_rate(self, house: Gatehouse) -> None:
        gate, bursting = house.gate(), replace(EUROPE, rate=10.0, burst=5)
        assert len((await once(gate, bursting, count=5)).offsets_seconds) == 5
        for _ in range(8):
            await house.pass_seconds(0.001)
            rate = await gate.slow(bursting, 0)
        ahead = len((await once(gate, bursting, count=5)).offsets_seconds)
        await house.pass_seconds(0.5)
        after = len((await once(gate, bursting, count=5)).offsets_seconds)
        assert 1 <= ahead + after <= 1 + 0.6 * rate

    async def test_a_clock_that_went_back_leaves_no_rate_low(self, house: Gatehouse) -> None:
        gate = house.gate()
        await gate.slow(EUROPE, 0)
        await house.pass_seconds(-3600)
        assert await rate_of(gate) == 200
        assert await gate.slow(EUROPE, 0.1) == pytest.approx(180, abs=0.01)
        assert await rate_of(gate) == pytest.approx(180, abs=0.01)


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: Gatehouse) -> Gatehouse:
        return twin


class TestFleet(Promises):
    @pytest.fixture
    def house(self, fleet: Gatehouse) -> Gatehouse:
        return fleet


HIDDEN = 37.0
FOUND_SECONDS, END_SECONDS = 30.0, 90.0


class Host:
    """A region that pushes back what comes faster than it says: 150 ms away, and of its answers 3 % are late."""

    def __init__(self, gate: Gate, limit: Limit, window: str) -> None:
        self._gate = gate
        self._limit = limit
        self._chance = random.Random(3)
        self._starts = StartLimit()
        self._settings = RegionSettings.model_validate({"starts_per_second": HIDDEN, "window": window})
        self._calls: set[asyncio.Task[None]] = set()
        self.answers: list[tuple[float, bool]] = []

    async def worker(self) -> None:
        """Use every permit at its moment."""
        loop = asyncio.get_running_loop()
        while loop.time() < END_SECONDS:
            since = loop.time()
            grant = await once(self._gate, self._limit, count=50)
            for offset in grant.offsets_seconds:
                await asyncio.sleep(max(0.0, since + offset - loop.time()))
                call = loop.create_task(self._call())
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            await asyncio.sleep(grant.wait_seconds)
        await asyncio.gather(*self._calls)

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        begun, there_and_back = loop.time(), 0.15 * self._chance.uniform(0.7, 1.3)
        await asyncio.sleep(there_and_back / 2)
        admitted = self._starts.admits(loop.time(), self._settings)
        self.answers.append((loop.time(), admitted))
        await asyncio.sleep(there_and_back / 2 + (1.5 if self._chance.random() < 0.03 else 0.0))
        if not admitted:
            await self._gate.slow(self._limit, loop.time() - begun)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("window", ["sliding", "fixed"])
@pytest.mark.parametrize("whole", [40.0, 200.0])
def test_a_hidden_limit_is_found_within_half_a_minute_and_then_well_used(
    run_virtually: RunVirtually, whole: float, window: str, workers: int
) -> None:
    async def story() -> None:
        host = Host(MemoryGate(probe_hold_seconds=10, chance=random.Random(1)), replace(EUROPE, rate=whole), window)
        await asyncio.gather(*(host.worker() for _ in range(workers)))
        later = [admitted for at, admitted in host.answers if FOUND_SECONDS <= at < END_SECONDS]
        assert sum(later) / (END_SECONDS - FOUND_SECONDS) >= 0.9 * HIDDEN
        assert later.count(False) < 0.05 * len(later)
        assert later.count(False) > 0, "a limit that is never met again is not being looked for"

    run_virtually(story)
