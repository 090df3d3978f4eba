"""What every gate promises of calls with no answer, of repeats and of push-backs that nobody understands yet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.gate.gate import (
    ASIDE_FIRST_SECONDS,
    DOUBTS_MAX,
    JUDGING_SECONDS,
    REPEATS_MAX,
    VERDICT_SECONDS,
    Cause,
    Gate,
    LimitState,
    Verdict,
)
from tests.gate.limits import ACCOUNT, EUROPE, US, once

if TYPE_CHECKING:
    from tests.gate.conftest import Gatehouse


async def doubts(gate: Gate, times: int = DOUBTS_MAX) -> float:
    """So many unknown outcomes; what the last was told."""
    return [await gate.doubt(EUROPE) for _ in range(times)][-1]


class Promises:
    async def test_the_fifth_unknown_outcome_in_a_row_sets_a_limit_aside_for_half_a_minute(
        self, house: Gatehouse
    ) -> None:
        first, second = house.gate(), house.gate()
        assert [await gate.doubt(EUROPE) for gate in (first, second, first, second)] == [0.0] * 4
        assert len((await once(second, EUROPE, ACCOUNT, count=3)).offsets_seconds) == 3
        seconds = await first.doubt(EUROPE)
        assert 30 <= seconds <= 36
        for last_resort in (False, True):
            assert len((await once(second, US, ACCOUNT, last_resort=last_resort)).offsets_seconds) == 1
        grant = await once(second, EUROPE, ACCOUNT, count=3)
        assert (grant.offsets_seconds, grant.closed, grant.probe) == ((), Cause.SET_ASIDE, False)
        assert grant.wait_seconds == pytest.approx(seconds, abs=0.01)

    async def test_one_that_got_through_ends_the_row(self, house: Gatehouse) -> None:
        gate = house.gate()
        await doubts(gate, 4)
        await gate.open([EUROPE, ACCOUNT])
        assert await doubts(gate, 4) == 0
        assert await gate.doubt(EUROPE) > 0

    async def test_a_definite_refusal_ends_the_row_and_a_failure_does_not(self, house: Gatehouse) -> None:
        gate = house.gate()
        for cause, unknown in ((Cause.FULL, 0), (Cause.UNAVAILABLE, 4), (Cause.CREDENTIAL, 0)):
            await gate.open([EUROPE])
            await doubts(gate, 4)
            await house.pass_seconds(await gate.shut(EUROPE, cause, None) + 0.01)
            assert [state.unknown_in_a_row for state in await gate.states([EUROPE])] == [unknown]

    async def test_a_grant_says_whether_the_next_success_has_to_be_told(self, house: Gatehouse) -> None:
        gate = house.gate()
        assert (await once(gate, EUROPE, ACCOUNT)).doubted is False
        await gate.doubt(EUROPE)
        assert (await once(gate, EUROPE, ACCOUNT)).doubted is True
        assert (await once(gate, US, EUROPE, ACCOUNT)).doubted is True, "as a guest's success ends the row, too"
        assert (await once(gate, US, ACCOUNT)).doubted is False
        await doubts(gate, 4)
        assert (await once(gate, EUROPE)).doubted is True
        await gate.open([EUROPE])
        assert (await once(gate, EUROPE)).doubted is False

    async def test_each_probe_that_fails_sets_it_aside_twice_as_long_up_to_five_minutes(self, house: Gatehouse) -> None:
        gate, seconds, jitters = house.gate(), await doubts(house.gate()), []
        for rest in (60, 120, 240, 300, 300, 300):
            await house.pass_seconds(seconds + 0.01)
            probe = await once(gate, EUROPE, ACCOUNT, count=5)
            assert (len(probe.offsets_seconds), probe.probe) == (1, True)
            assert (await once(gate, EUROPE, ACCOUNT)).closed is Cause.SET_ASIDE
            seconds = await gate.doubt(EUROPE)
            assert rest <= seconds <= rest * 1.2 + 0.01
            jitters.append(seconds / rest)
        assert max(jitters) - min(jitters) > 0.05

    async def test_calls_that_were_out_already_change_nothing(self, house: Gatehouse) -> None:
        gate = house.gate()
        seconds = await doubts(gate)
        await house.pass_seconds(8)
        for _ in range(20):
            assert await house.gate().doubt(EUROPE) == pytest.approx(seconds - 8, abs=0.01)
        await house.pass_seconds(seconds - 8 + 0.01)
        assert (await once(gate, EUROPE)).probe
        assert 60 <= await gate.doubt(EUROPE) <= 72.01

    async def test_a_probe_that_got_through_opens_it_and_forgets_how_often_it_was_set_aside(
        self, house: Gatehouse
    ) -> None:
        gate = house.gate()
        await house.pass_seconds(await doubts(gate) + 0.01)
        await house.pass_seconds(await gate.doubt(EUROPE) + 0.01)
        assert (await once(gate, EUROPE, ACCOUNT)).probe
        await gate.open([EUROPE, ACCOUNT])
        grant = await once(gate, EUROPE, ACCOUNT, count=3)
        assert (len(grant.offsets_seconds), grant.probe, grant.doubted) == (3, False, False)
        assert await doubts(gate, 4) == 0
        assert 30 <= await gate.doubt(EUROPE) <= 36

    async def test_a_shut_meanwhile_neither_shortens_nor_lengthens_it(self, house: Gatehouse) -> None:
        gate = house.gate()
        seconds = await doubts(gate)
        for _ in range(3):
            assert await gate.shut(EUROPE, Cause.FULL, None) == pytest.approx(seconds, abs=0.01)
        await house.pass_seconds(2.5)
        grant = await once(gate, EUROPE)
        assert grant.closed is Cause.SET_ASIDE
        assert grant.wait_seconds == pytest.approx(seconds - 2.5, abs=0.01)
        await house.pass_seconds(seconds - 2.5 + 0.01)
        assert (await once(gate, EUROPE)).probe
        assert 60 <= await gate.doubt(EUROPE) <= 72.01

    async def test_cool_downs_do_not_grow_by_being_set_aside(self, house: Gatehouse) -> None:
        gate = house.gate()
        await house.pass_seconds(await doubts(gate) + 0.01)
        await house.pass_seconds(await gate.doubt(EUROPE) + 0.01)
        assert 2.0 <= await gate.shut(EUROPE, Cause.FULL, None) <= 2.41
        assert (await once(gate, EUROPE)).closed is Cause.FULL
        assert await doubts(gate, 4) == 0

    async def test_what_the_host_asks_for_holds_beyond_being_set_aside(self, house: Gatehouse) -> None:
        gate = house.gate()
        seconds = await doubts(gate)
        assert await gate.shut(EUROPE, Cause.UNAVAILABLE, 100) == pytest.approx(100, abs=0.01)
        assert (await once(gate, EUROPE)).closed is Cause.UNAVAILABLE
        await house.pass_seconds(seconds + 0.01)
        assert (await once(gate, EUROPE, last_resort=True)).closed is Cause.UNAVAILABLE
        await gate.open([EUROPE])
        assert (await once(gate, EUROPE)).closed is Cause.UNAVAILABLE

    async def test_those_with_nowhere_else_to_go_get_one_probe_at_a_time_at_once(self, house: Gatehouse) -> None:
        gate = house.gate()
        seconds = await doubts(gate)
        for began in (0, 10.1):
            await house.pass_seconds(began)
            asks = [(True, False)[number % 2] for number in range(6)]
            grants = await asyncio.gather(*(once(gate, EUROPE, ACCOUNT, count=9, last_resort=ask) for ask in asks))
            assert [(len(grant.offsets_seconds), grant.probe) for grant in grants] == [(1, True), *[(0, False)] * 5]
            assert {grant.closed for grant in grants[1:]} == {Cause.SET_ASIDE}
            assert [grant.wait_seconds for grant in grants[2::2]] == pytest.approx([10.0] * 2, abs=0.01)
            assert [grant.wait_seconds for grant in grants[1::2]] == pytest.approx([seconds - began] * 3, abs=0.01)
        assert await gate.doubt(EUROPE) == pytest.approx(seconds - 10.1, abs=0.01)
        assert (await once(gate, EUROPE, last_resort=True)).probe is False
        await gate.open([EUROPE])
        assert len((await once(gate, EUROPE, count=3)).offsets_seconds) == 3

    async def test_to_have_nowhere_else_to_go_opens_nothing_that_the_host_shut(self, house: Gatehouse) -> None:
        gate = house.gate()
        for cause in (Cause.FULL, Cause.UNAVAILABLE, Cause.CREDENTIAL):
            await gate.shut(US, cause, 5)
            grant = await once(gate, US, last_resort=True)
            assert (grant.offsets_seconds, grant.closed) == ((), cause)
        await doubts(gate)
        await gate.shut(EUROPE, Cause.FULL, 5)
        grant = await once(gate, EUROPE, last_resort=True)
        assert (grant.offsets_seconds, grant.closed) == ((), Cause.FULL)
        assert grant.wait_seconds == pytest.approx(5, abs=0.01)
        await gate.shut(ACCOUNT, Cause.CREDENTIAL, 10)
        await house.pass_seconds(5.1)
        assert (await once(gate, EUROPE, ACCOUNT, last_resort=True)).closed is Cause.CREDENTIAL

    async def test_one_of_the_fleet_finds_out_what_a_push_back_means(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        assert await first.verdict(EUROPE) is Verdict.ASK
        assert [await gate.verdict(EUROPE) for gate in (first, second) * 3] == [Verdict.ASKING] * 6
        assert await second.verdict(US) is Verdict.ASK
        await first.judge(EUROPE, Verdict.THROTTLED)
        assert [await gate.verdict(EUROPE) for gate in (first, second)] == [Verdict.THROTTLED] * 2
        await house.pass_seconds(VERDICT_SECONDS - 0.01)
        assert await second.verdict(EUROPE) is Verdict.THROTTLED
        await house.pass_seconds(0.02)
        assert [await second.verdict(EUROPE) for _ in range(2)] == [Verdict.ASK, Verdict.ASKING]
        await second.judge(EUROPE, Verdict.FULL)
        assert await first.verdict(EUROPE) is Verdict.FULL

    async def test_where_one_is_lost_finding_out_another_is_told_to(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        assert await first.verdict(EUROPE) is Verdict.ASK
        await house.pass_seconds(JUDGING_SECONDS - 0.01)
        assert await second.verdict(EUROPE) is Verdict.ASKING
        await house.pass_seconds(0.02)
        assert [await second.verdict(EUROPE) for _ in range(2)] == [Verdict.ASK, Verdict.ASKING]

    async def test_a_budget_is_full_at_first_and_then_lives_on_one_a_second(self, house: Gatehouse) -> None:
        first, second = house.gate(), house.gate()
        assert [await gate.may_repeat(ACCOUNT, 0) for gate in (first, second) * 10] == [True] * int(REPEATS_MAX)
        assert await first.may_repeat(ACCOUNT, 0) is False
        for _ in range(10):
            await house.pass_seconds(1)
            assert [await gate.may_repeat(ACCOUNT, 0) for gate in (first, second)] == [True, False]
        await house.pass_seconds(3600)
        assert [await first.may_repeat(ACCOUNT, 0) for _ in range(21)].count(True) == REPEATS_MAX

    async def test_first_attempts_bring_in_a_fifth_also_when_the_repeat_is_refused(self, house: Gatehouse) -> None:
        gate = house.gate()
        while await gate.may_repeat(ACCOUNT, 0):
            pass
        assert [await gate.may_repeat(ACCOUNT, 1) for _ in range(10)] == [False, False, False, False, True] * 2
        assert await gate.may_repeat(ACCOUNT, 10_000) is True
        assert [await gate.may_repeat(ACCOUNT, 0) for _ in range(20)].count(True) == REPEATS_MAX - 1
        assert await gate.may_repeat(replace(ACCOUNT, account="other"), 0) is True

    async def test_a_person_sees_how_each_limit_stands(self, house: Gatehouse) -> None:
        gate = house.gate()
        assert await gate.states([EUROPE, ACCOUNT]) == [LimitState(60.0), LimitState(None)]
        await doubts(gate)
        await gate.slow(US, 0)
        await gate.shut(ACCOUNT, Cause.CREDENTIAL, 10)
        europe, us, account = await gate.states([EUROPE, US, ACCOUNT])
        assert (europe.cause, europe.unknown_in_a_row) == (Cause.SET_ASIDE, DOUBTS_MAX)
        assert ASIDE_FIRST_SECONDS <= europe.closed_seconds <= ASIDE_FIRST_SECONDS * 1.2
        assert us == LimitState(54.0)
        assert replace(account, closed_seconds=10.0) == LimitState(None, 10.0, Cause.CREDENTIAL)
        assert account.closed_seconds == pytest.approx(10.0, abs=0.01)
        await house.pass_seconds(10.1)
        assert (await gate.states([ACCOUNT]))[0] == LimitState(None, 0.0, Cause.CREDENTIAL)
        assert (await once(gate, ACCOUNT)).probe
        (probed,) = await gate.states([ACCOUNT])
        assert probed.closed_seconds == pytest.approx(10.0, abs=0.01)
        assert await gate.states([]) == []


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: Gatehouse) -> Gatehouse:
        return twin


class TestFleet(Promises):
    @pytest.fixture
    def house(self, fleet: Gatehouse) -> Gatehouse:
        return fleet
