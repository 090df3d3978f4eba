"""What every gate promises, held against the twin and against the fleet's on each server."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.gate.gate import (
    CLOSED_SECONDS_MAX,
    DOUBTS_MAX,
    PACE,
    REACH_SECONDS,
    Ask,
    Cause,
    Gate,
    Verdict,
)
from tests.gate.limits import ACCOUNT, EUROPE, US, once

if TYPE_CHECKING:
    from tests.gate.conftest import Gatehouse

STEP_SECONDS = 0.009


async def used(house: Gatehouse, asks: Sequence[tuple[Gate, Ask]], seconds: float) -> list[list[float]]:
    """The moments of the permits that each asker gets when all ask every so often for all they can get."""
    moments: list[list[float]] = [[] for _ in asks]
    end = house.now() + seconds
    while (now := house.now()) < end:
        grants = await asyncio.gather(*(gate.permits(ask) for gate, ask in asks))
        for each, grant in zip(moments, grants, strict=True):
            each += [now + offset for offset in grant.offsets_seconds]
        await house.pass_seconds(STEP_SECONDS)
    return moments


def most_in_a_second(moments: Sequence[float]) -> int:
    """The most permits in any rolling second, but for the microseconds that are rounded."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, moment + 0.99999) - index for index, moment in enumerate(ordered))


def rate_of(moments: Sequence[float]) -> float:
    return (len(moments) - 1) / (max(moments) - min(moments))


class Promises:
    async def test_two_gates_together_keep_the_rate_in_every_rolling_second(self, house: Gatehouse) -> None:
        ask = Ask((EUROPE, ACCOUNT), 50)
        first, second = await used(house, [(house.gate(), ask), (house.gate(), ask)], 5)
        both = [*first, *second]
        assert most_in_a_second(both) <= 60
        assert rate_of(both) == pytest.approx(PACE * 60, rel=0.03)

    @pytest.mark.parametrize("rate", [0.5, 1.0, 7.0, 333.0])
    async def test_any_rate_is_kept_and_used(self, house: Gatehouse, rate: float) -> None:
        (moments,) = await used(house, [(house.gate(), Ask((replace(EUROPE, rate=rate),), 256))], max(3, 3 / rate))
        assert most_in_a_second(moments) <= max(1, rate)
        assert rate_of(moments) == pytest.approx(PACE * rate, rel=0.03)

    async def test_permits_reach_a_tenth_of_a_second_ahead_and_are_paced(self, house: Gatehouse) -> None:
        grant = await once(house.gate(), EUROPE, count=50)
        gap = 1 / (60 * PACE)
        assert grant.offsets_seconds == pytest.approx([gap * number for number in range(6)], abs=1e-5)
        assert grant.offsets_seconds[-1] <= REACH_SECONDS
        assert grant.wait_seconds == pytest.approx(gap * 6 - REACH_SECONDS, abs=1e-5)
        assert (grant.closed, grant.probe) == (None, False)

    async def test_the_wait_that_is_told_is_as_long_as_it_takes(self, house: Gatehouse) -> None:
        gate, slow = house.gate(), replace(EUROPE, rate=1.0)
        await once(gate, slow)
        grant = await once(gate, slow)
        assert grant.offsets_seconds == ()
        assert grant.wait_seconds == pytest.approx(1 / PACE - REACH_SECONDS, abs=0.05)
        await house.pass_seconds(grant.wait_seconds - 0.1)
        assert (await once(gate, slow)).offsets_seconds == ()
        await house.pass_seconds(0.1)
        assert len((await once(gate, slow)).offsets_seconds) == 1

    async def test_no_more_is_given_than_asked(self, house: Gatehouse) -> None:
        grant = await once(house.gate(), EUROPE, count=2)
        assert len(grant.offsets_seconds) == 2
        assert grant.wait_seconds == 0
        assert len((await once(house.gate(), replace(US, rate=None), ACCOUNT, count=100)).offsets_seconds) == 100

    async def test_a_burst_is_given_at_once_and_again_after_a_rest(self, house: Gatehouse) -> None:
        gate, bursting = house.gate(), replace(EUROPE, rate=10.0, burst=5)
        gap = 1 / (10 * PACE)
        for _ in range(2):
            grant = await once(gate, bursting, count=50)
            assert grant.offsets_seconds == pytest.approx([0] * 5, abs=1e-5)
            assert grant.wait_seconds == pytest.approx(gap - REACH_SECONDS, abs=1e-5)
            await house.pass_seconds(gap * 5)

    async def test_a_rest_saves_up_no_more_than_the_burst(self, house: Gatehouse) -> None:
        gate = house.gate()
        await once(gate, EUROPE)
        await house.pass_seconds(30)
        assert len((await once(gate, EUROPE, count=50)).offsets_seconds) == 6

    async def test_the_accounts_rate_holds_over_its_destinations(self, house: Gatehouse) -> None:
        account, gate = replace(ACCOUNT, rate=100.0), house.gate()
        asks = [(gate, Ask((replace(limit, rate=80.0), account), 50)) for limit in (EUROPE, US)]
        europe, us = await used(house, asks, 5)
        assert most_in_a_second([*europe, *us]) <= 100
        assert max(most_in_a_second(europe), most_in_a_second(us)) <= 80
        assert rate_of([*europe, *us]) == pytest.approx(PACE * 100, rel=0.03)

    async def test_permits_of_many_slow_lanes_that_fall_due_together_do_not_exceed_the_accounts_rate(
        self, house: Gatehouse
    ) -> None:
        account, gate = replace(ACCOUNT, rate=200.0), house.gate()
        slow = [replace(EUROPE, scope=f"region-{number}", rate=1.0) for number in range(4)]
        await asyncio.gather(*(once(gate, limit) for limit in slow))
        await house.pass_seconds(1 / PACE - 0.019)
        now = house.now()
        grants = await asyncio.gather(*(once(gate, limit, account) for limit in slow))
        together = [now + offset for grant in grants for offset in grant.offsets_seconds]
        assert len(together) == 4
        (rest,) = await used(house, [(gate, Ask((replace(US, rate=None), account), 50))], 1.5)
        assert most_in_a_second([*together, *rest]) <= 200

    async def test_an_account_with_room_slows_no_destination(self, house: Gatehouse) -> None:
        account, gate = replace(ACCOUNT, rate=200.0), house.gate()
        asks = [(gate, Ask((replace(limit, rate=40.0), account), 50)) for limit in (EUROPE, US)]
        for moments in await used(house, asks, 5):
            assert rate_of(moments) == pytest.approx(PACE * 40, rel=0.03)

    async def test_accounts_and_providers_know_nothing_of_each_other(self, house: Gatehouse) -> None:
        gate = house.gate()
        await gate.shut(EUROPE, Cause.FULL, None)
        for other in (replace(EUROPE, account="other"), replace(EUROPE, provider="edgegap"), US):
            assert len((await once(gate, other, count=1)).offsets_seconds) == 1

    async def test_a_shut_limit_gives_nothing_and_says_why_and_for_how_long(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        seconds = await first.shut(EUROPE, Cause.FULL, None)
        assert 2.0 <= seconds <= 2.41
        for gate in (first, second):
            grant = await once(gate, EUROPE, ACCOUNT, count=5)
            assert (grant.offsets_seconds, grant.closed, grant.probe) == ((), Cause.FULL, False)
            assert grant.wait_seconds == pytest.approx(seconds, abs=0.2)

    async def test_cool_downs_double_from_two_seconds_to_a_minute_with_a_fifth_of_jitter(
        self, house: Gatehouse
    ) -> None:
        gate, jitters = house.gate(), []
        for cooldown in (2, 4, 8, 16, 32, *[60] * 40):
            seconds = await gate.shut(EUROPE, Cause.FULL, None)
            assert cooldown <= seconds <= cooldown * 1.2 + 0.01
            jitters.append(seconds / cooldown - 1)
            await house.pass_seconds(seconds + 0.01)
        assert max(jitters) - min(jitters) > 0.1

    async def test_what_the_host_asks_for_is_honoured_and_bounded(self, house: Gatehouse) -> None:
        gate = house.gate()
        for asked, kept in ((0.5, 0.5), (30.0, 30.0), (86_400.0, CLOSED_SECONDS_MAX), (0.0, 0.0), (-5.0, 0.0)):
            seconds = await gate.shut(EUROPE, Cause.UNAVAILABLE, asked)
            assert seconds == pytest.approx(kept, abs=0.01)
            await house.pass_seconds(seconds + 0.01)
            assert (await once(gate, EUROPE)).probe is True

    async def test_many_shuts_at_once_count_once(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        seconds = await first.shut(EUROPE, Cause.FULL, None)
        for gate in (first, second) * 10:
            assert await gate.shut(EUROPE, Cause.FULL, None) == pytest.approx(seconds, abs=0.2)
        assert await second.shut(EUROPE, Cause.FULL, 0.1) == pytest.approx(seconds, abs=0.2)
        assert await second.shut(EUROPE, Cause.FULL, 20) == pytest.approx(20, abs=0.2)
        await house.pass_seconds(20.1)
        assert 4.0 <= await first.shut(EUROPE, Cause.FULL, None) <= 4.81

    async def test_after_the_cool_down_one_probe_is_out_at_a_time(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        await house.pass_seconds(await first.shut(EUROPE, Cause.FULL, None) + 0.01)
        grants = await asyncio.gather(*(once(gate, EUROPE, ACCOUNT, count=9) for gate in (first, second) * 3))
        probes = [grant for grant in grants if grant.offsets_seconds]
        assert [(len(grant.offsets_seconds), grant.probe, grant.closed) for grant in probes] == [(1, True, None)]
        waits = [grant for grant in grants if not grant.offsets_seconds]
        assert {grant.closed for grant in waits} == {Cause.FULL}
        assert all(grant.wait_seconds == pytest.approx(10, abs=0.3) for grant in waits)

    async def test_a_probe_that_never_comes_back_is_followed_by_another(self, house: Gatehouse) -> None:
        gate = house.gate()
        await house.pass_seconds(await gate.shut(EUROPE, Cause.FULL, None) + 0.01)
        assert (await once(gate, EUROPE)).probe
        await house.pass_seconds(9)
        assert (await once(gate, EUROPE)).closed is Cause.FULL
        await house.pass_seconds(1.1)
        assert (await once(gate, EUROPE)).probe

    async def test_a_probe_that_got_through_opens_the_limit_and_forgets_its_closings(self, house: Gatehouse) -> None:
        gate, other = house.gate(), house.gate()
        for _ in range(3):
            await house.pass_seconds(await gate.shut(EUROPE, Cause.FULL, None) + 0.01)
        assert (await once(gate, EUROPE, ACCOUNT)).probe
        await gate.open([EUROPE, ACCOUNT])
        await house.pass_seconds(1)
        grant = await once(other, EUROPE, ACCOUNT, count=3)
        assert (len(grant.offsets_seconds), grant.probe) == (3, False)
        assert 2.0 <= await gate.shut(EUROPE, Cause.FULL, None) <= 2.41

    async def test_a_limit_shut_anew_meanwhile_stays_shut(self, house: Gatehouse) -> None:
        gate = house.gate()
        await house.pass_seconds(await gate.shut(EUROPE, Cause.FULL, None) + 0.01)
        assert (await once(gate, EUROPE)).probe
        seconds = await house.gate().shut(EUROPE, Cause.UNAVAILABLE, None)
        await gate.open([EUROPE])
        grant = await once(gate, EUROPE)
        assert (grant.closed, grant.offsets_seconds) == (Cause.UNAVAILABLE, ())
        await house.pass_seconds(seconds + 0.01)
        assert (await once(gate, EUROPE)).probe
        assert 8.0 <= await gate.shut(EUROPE, Cause.FULL, None) <= 9.61

    async def test_a_refused_credential_shuts_every_destination_of_the_account(self, house: Gatehouse) -> None:
        gate = house.gate()
        await gate.shut(ACCOUNT, Cause.CREDENTIAL, 10)
        for limit in (EUROPE, US):
            assert (await once(gate, limit, ACCOUNT)).closed is Cause.CREDENTIAL
        await house.pass_seconds(10.01)
        assert (await once(gate, EUROPE, ACCOUNT)).probe
        assert (await once(gate, US, ACCOUNT)).closed is Cause.CREDENTIAL
        await gate.open([EUROPE, ACCOUNT])
        assert (await once(gate, US, ACCOUNT, count=2)).probe is False

    async def test_of_two_shut_limits_the_longer_one_is_told(self, house: Gatehouse) -> None:
        gate = house.gate()
        await gate.shut(EUROPE, Cause.FULL, 30)
        await gate.shut(ACCOUNT, Cause.CREDENTIAL, 10)
        grant = await once(gate, EUROPE, ACCOUNT)
        assert grant.closed is Cause.FULL
        assert grant.wait_seconds == pytest.approx(30, abs=0.2)

    async def test_a_clock_that_went_back_stops_no_lane(self, house: Gatehouse) -> None:
        gate, shared = house.gate(), replace(ACCOUNT, rate=100.0)
        assert len((await once(gate, EUROPE, shared)).offsets_seconds) == 1
        await house.pass_seconds(-3600)
        grant = await once(gate, EUROPE, shared)
        assert 0 < grant.wait_seconds <= REACH_SECONDS + 2 / 60
        await house.pass_seconds(grant.wait_seconds)
        assert len((await once(gate, EUROPE, shared)).offsets_seconds) == 1

    @pytest.mark.parametrize("how", ["shut", "as long as the host may say", "set aside", "probe"])
    async def test_a_clock_that_went_back_keeps_nothing_shut(self, house: Gatehouse, how: str) -> None:
        gate, begun = house.gate(), house.now()
        if how == "set aside":
            for _ in range(DOUBTS_MAX):
                await gate.doubt(EUROPE)
        else:
            seconds = await gate.shut(EUROPE, Cause.FULL, CLOSED_SECONDS_MAX if how.startswith("as long") else None)
        if how == "probe":
            await house.pass_seconds(seconds + 0.01)
            assert (await once(gate, EUROPE)).probe
        await house.pass_seconds(begun - house.now() - 3600)
        (state,) = await gate.states([EUROPE])
        assert state.closed_seconds == 0
        probe = await once(gate, replace(EUROPE, rate=None))
        assert (len(probe.offsets_seconds), probe.probe) == (1, True)
        await gate.open([EUROPE])
        await house.pass_seconds(1)
        assert (await once(gate, EUROPE, count=2)).probe is False

    async def test_after_a_clock_that_went_back_a_limit_is_shut_and_set_aside_anew(self, house: Gatehouse) -> None:
        gate = house.gate()
        await gate.shut(EUROPE, Cause.FULL, 30)
        for _ in range(DOUBTS_MAX):
            await gate.doubt(EUROPE)
        await house.pass_seconds(-3600)
        assert await gate.shut(EUROPE, Cause.UNAVAILABLE, 20) == pytest.approx(20, abs=0.01)
        assert 60 <= await gate.doubt(EUROPE) <= 72.01, "still one of a row"

    async def test_a_clock_that_went_back_leaves_no_push_back_judged(self, house: Gatehouse) -> None:
        gate = house.gate()
        assert await gate.verdict(EUROPE) is Verdict.ASK
        await house.pass_seconds(-3600)
        assert await gate.verdict(EUROPE) is Verdict.ASK
        await gate.judge(EUROPE, Verdict.FULL)
        await house.pass_seconds(-3600)
        assert await gate.verdict(EUROPE) is Verdict.ASK

    async def test_an_ask_that_gets_nothing_uses_nothing_up(self, house: Gatehouse) -> None:
        account, gate = replace(ACCOUNT, rate=10.0), house.gate()
        await gate.shut(EUROPE, Cause.FULL, None)
        for _ in range(20):
            assert (await once(gate, EUROPE, account)).offsets_seconds == ()
        assert (await once(gate, US, account)).offsets_seconds == pytest.approx([0], abs=1e-5)


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: Gatehouse) -> Gatehouse:
        return twin


class TestFleet(Promises):
    @pytest.fixture
    def house(self, fleet: Gatehouse) -> Gatehouse:
        return fleet
