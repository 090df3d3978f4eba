"""From hold to end: each step bears a fence, a stale one changes nothing, and any may be repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.broker import Already, Broker, Condemned, Done, Hold, IsCondemned, Stale
from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.codes import Code

if TYPE_CHECKING:
    from tests.broker.conftest import House

LATE = Condemned("gameye", "s-0", "start answered 503, late")
ATTEMPTS = (Attempt("europe", "gameye", "europe", Outcome.NO_CAPACITY, 420, 1_700_000_000_000, 12.5, 0.25),)
SHORT_MS = 30


async def taken_over(house: House, first: Broker, request_id: str = "m-1", **ask: Any) -> tuple[Hold, Hold, Broker]:
    """The hold of a worker that slept through its lease, and that of the one who took over."""
    old = await house.held(first, request_id, **ask)
    second = house.broker("w-2")
    await house.pass_ms(SHORT_MS + 5)
    (new,) = await second.reclaim(10)
    return old, new, second


class Promises:
    async def test_a_lapsed_request_is_taken_over_under_a_new_fence(self, house: House) -> None:
        old, new, _ = await taken_over(house, await house.prepared(lease_ms=SHORT_MS), context="1")
        assert new == Hold(
            "m-1", new.fence, old.entry_id, old.priority, old.deadline_ms, old.raw, takes=2, uncertain=True
        )
        assert new.fence != old.fence

    async def test_a_held_request_is_not_taken_over_nor_one_taken_over_twice(self, house: House) -> None:
        broker = await house.prepared()
        await house.held(broker)
        assert await house.broker("w-2").reclaim(10) == []
        *_, second = await taken_over(house, await house.prepared(lease_ms=SHORT_MS), request_id="m-2")
        assert await second.reclaim(10) == []

    async def test_reclaim_takes_no_more_than_asked_and_the_longest_lapsed_first(self, house: House) -> None:
        broker = await house.prepared(lease_ms=SHORT_MS)
        for number in range(3):
            await house.held(broker, f"m-{number}")
            await house.pass_ms(2)
        await house.pass_ms(SHORT_MS)
        longer = house.broker("w-2")
        first = await longer.reclaim(2)
        assert [hold.request_id for hold in first] == ["m-0", "m-1"]
        assert [hold.request_id for hold in await longer.reclaim(2)] == ["m-2"]
        assert len({hold.fence for hold in first}) == 2

    @pytest.mark.parametrize("clean", [True, False])
    async def test_handed_back_it_is_anyones_at_once_and_clean_is_said_once(self, house: House, *, clean: bool) -> None:
        broker, second = await house.prepared(), house.broker("w-2", lease_ms=SHORT_MS)
        hold = await house.held(broker)
        await broker.note(hold, ATTEMPTS, Code.NO_CAPACITY, "full")
        await broker.hand_back([(hold, clean)])
        (again,) = await second.reclaim(1)
        assert (again.uncertain, again.takes, again.attempts) == (not clean, 1 if clean else 2, ATTEMPTS)
        await house.pass_ms(SHORT_MS + 5)
        (third,) = await broker.reclaim(1)
        assert (third.uncertain, third.takes) == (True, 2 if clean else 3)

    async def test_the_take_of_a_suspect_counts_once_its_processing_begins(self, house: House) -> None:
        broker = await house.prepared(lease_ms=SHORT_MS)
        await house.held(broker)
        taken: list[tuple[int, bool]] = []
        for begins in (False, False, False, True, False, True):
            await house.pass_ms(SHORT_MS + 5)
            (hold,) = await broker.reclaim(1)
            taken.append((hold.takes, hold.uncertain))
            if begins:
                assert await broker.begin(hold) is True
                assert await broker.begin(replace(hold, fence="of another")) is False
        assert taken == [(takes, True) for takes in (2, 3, 3, 3, 4, 4)]

    async def test_a_renewed_lease_does_not_lapse(self, house: House) -> None:
        broker = await house.prepared(lease_ms=SHORT_MS)
        hold = await house.held(broker)
        assert await house.broker("w-1").renew([hold]) == [True]
        await house.pass_ms(SHORT_MS + 5)
        assert await broker.reclaim(1) == []

    async def test_renew_says_of_each_whether_it_is_ours(self, house: House) -> None:
        first = await house.prepared(lease_ms=SHORT_MS)
        stale, new, second = await taken_over(house, first)
        mine, ended = await house.held(second, "m-2"), await house.held(second, "m-3")
        await second.commit(house.good_end(ended))
        gone = Hold("m-9", "f", "1-1", mine.priority, 0, b"")
        assert await second.renew([stale, new, mine, ended, gone]) == [False, True, True, False, False]
        assert await house.left() == {"leases": 2}

    async def test_a_stale_fence_changes_nothing(self, house: House) -> None:
        first = await house.prepared(lease_ms=SHORT_MS)
        old, new, second = await taken_over(house, first)
        before = await house.allocation("m-1")
        assert await first.note(old, ATTEMPTS, Code.NO_CAPACITY, "full") is False
        assert await first.next_generation(old, [LATE]) is None
        assert await first.commit(house.bad_end(old, LATE)) == Stale()
        assert await first.renew([old]) == [False]
        await first.hand_back([(old, True)])
        assert await house.allocation("m-1") == before
        assert await house.condemned() == []
        assert await house.results() == []
        assert await first.reclaim(1) == []
        assert await second.commit(house.good_end(new)) == Done()
        assert await first.commit(house.bad_end(old, LATE)) == Stale("allocated", "s-1")
        assert (await house.allocation("m-1"))["state"] == "allocated"
        assert await house.condemned() == []

    async def test_a_note_is_read_in_the_hash_until_the_end_takes_it_back(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        assert await broker.note(hold, ATTEMPTS, Code.NO_CAPACITY, "europe is full") is True
        fields = await house.allocation("m-1")
        assert (fields["state"], fields["error_code"]) == ("allocating", "no_capacity")
        assert fields["error_message"] == "europe is full"
        assert '"outcome":"no_capacity"' in fields["attempts"]
        await broker.commit(house.good_end(hold))
        assert {"error_code", "error_message"}.isdisjoint(await house.allocation("m-1"))
        assert await broker.note(hold, ATTEMPTS, Code.NO_CAPACITY, "late") is False

    async def test_the_next_generation_is_persisted_and_condemns_this_one(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        assert await broker.next_generation(hold, [LATE]) == 2
        assert await broker.next_generation(hold, [LATE]) == 2
        assert await house.condemned() == ["gameye/s-0"]
        assert await broker.next_generation(hold.of_generation(2), []) == 3
        assert await broker.next_generation(hold, []) == 3
        await broker.hand_back([(hold, True)])
        assert [each.generation for each in await broker.reclaim(1)] == [3]

    async def test_an_end_is_written_announced_and_let_go_in_one_step(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker, context="1", reply_to="mm-1")
        before = await house.allocation("m-1")
        ending = house.good_end(hold, keep_ms=9_000_000)
        assert await broker.commit(ending) == Done()
        assert await house.allocation("m-1") == {**before, **ending.fields}
        assert await house.keeps_ms("m-1") == pytest.approx(9_000_000, abs=2000)
        assert await house.results() == await house.replies("mm-1") == [("m-1", "allocated", ending.event)]
        assert await house.left() == {}
        assert (await broker.survey()).held == 0

    async def test_an_end_told_twice_is_announced_once(self, house: House) -> None:
        broker = await house.prepared()
        hold, other = await house.held(broker), await house.held(broker, "m-2")
        ending, bad = house.good_end(hold), house.bad_end(other)
        assert [await broker.commit(ending), await broker.commit(ending)] == [Done(), Already("s-1")]
        assert [await broker.commit(bad), await broker.commit(bad)] == [Done(), Already(None)]
        assert [state for _, state, _ in await house.results()] == ["allocated", "expired"]

    async def test_a_bad_end_condemns_what_may_be_left(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        await broker.commit(house.bad_end(hold, LATE))
        (due,) = await broker.claim_condemned(10, 1000)
        assert (due.provider, due.session_id, due.reason) == ("gameye", "s-0", LATE.reason)
        assert due.since_ms == pytest.approx(broker.now_ms(), abs=2000)
        assert (await broker.survey()).condemned == 1

    async def test_a_condemned_session_is_never_handed_over(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        await broker.next_generation(hold, [LATE])
        before = await house.allocation("m-1")
        assert await broker.commit(house.good_end(hold, session="s-0")) == IsCondemned()
        assert await house.allocation("m-1") == before
        assert await house.results() == []
        assert await broker.commit(house.good_end(hold, session="s-1")) == Done()

    async def test_a_condemned_session_is_handed_to_one_stopper_until_it_is_due_again(self, house: House) -> None:
        broker, second = await house.prepared(), house.broker("w-2")
        hold = await house.held(broker)
        await broker.commit(house.bad_end(hold, LATE, Condemned("gameye", "s-5", "x")))
        (first,) = await broker.claim_condemned(1, SHORT_MS)
        (other,) = await second.claim_condemned(10, 60_000)
        assert {first.session_id, other.session_id} == {"s-0", "s-5"}
        assert await second.claim_condemned(10, 1000) == []
        await house.pass_ms(SHORT_MS + 5)
        assert await second.claim_condemned(10, 60_000) == [first]
        await second.recheck(first, 0)
        assert await broker.claim_condemned(10, 60_000) == [first]
        await broker.recheck(first, None)
        await broker.recheck(first, 0)
        assert await house.condemned() == [f"gameye/{other.session_id}"]

    async def test_one_given_up_for_the_next_generation_is_looked_for_a_moment_later(self, house: House) -> None:
        broker = await house.prepared()
        await broker.next_generation(await house.held(broker), [LATE])
        assert await broker.claim_condemned(10, 1000) == []
        await house.pass_ms(1001)
        (due,) = await broker.claim_condemned(10, 1000)
        assert due.session_id == "s-0"
        assert broker.now_ms() - due.since_ms >= 1000

    async def test_after_an_end_nothing_is_taken_over(self, house: House) -> None:
        broker = await house.prepared(lease_ms=SHORT_MS)
        hold = await house.held(broker)
        await broker.commit(house.good_end(hold))
        await broker.hand_back([(hold, True)])
        assert await broker.renew([hold]) == [False]
        assert await broker.next_generation(hold, [LATE]) is None
        assert await house.left() == {}
        await house.pass_ms(SHORT_MS + 5)
        assert await broker.reclaim(10) == []
        assert await house.left() == {}


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: House) -> House:
        return twin


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: House) -> House:
        return streams
