"""Reserve: whoever settles the entry of a new id owns it; whatever else an entry may be is told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.broker.broker import BATCH_MAX, Done, Duplicate, Ended, Hold, Lost, OtherBody
from allocator.contract.request import Priority

if TYPE_CHECKING:
    from tests.broker.conftest import House


class Promises:
    async def test_a_new_id_is_ours_and_its_hash_says_allocating(self, house: House) -> None:
        broker = await house.prepared()
        entry = await house.taken(broker, b'{"id":"m-1"}', Priority.HIGH)
        (hold,) = await broker.reserve([house.ask(entry, timeout_ms=5000, context='{"a":1}')])
        assert isinstance(hold, Hold)
        deadline_ms = entry.enqueued_at_ms + 5000
        assert hold == Hold("m-1", hold.fence, entry.entry_id, Priority.HIGH, deadline_ms, b'{"id":"m-1"}')
        fields = await house.allocation("m-1")
        assert int(fields.pop("updated_at")) == pytest.approx(broker.now_ms(), abs=2000)
        assert fields == {
            "state": "allocating",
            "request_id": "m-1",
            "priority": "high",
            "context": '{"a":1}',
            "enqueued_at": str(entry.enqueued_at_ms),
        }
        assert await house.left() == {"leases": 1}

    async def test_a_repeat_after_a_lost_reply_gives_the_same_hold(self, house: House) -> None:
        broker = await house.prepared()
        asks = [house.ask(await house.taken(broker), f"m-{number}") for number in range(2)]
        first = await broker.reserve(asks)
        assert await broker.reserve(asks) == first
        assert await broker.reserve(asks[::-1]) == first[::-1]
        assert await house.left() == {"leases": 2}

    async def test_a_repeat_that_comes_after_a_take_over_is_lost(self, house: House) -> None:
        broker = await house.prepared(lease_ms=10)
        ask = house.ask(await house.taken(broker))
        await broker.reserve([ask])
        await house.pass_ms(15)
        assert len(await house.broker("w-2").reclaim(1)) == 1
        assert await broker.reserve([ask]) == [Lost()]

    async def test_a_repeat_that_comes_after_the_end_begins_nothing_anew(self, house: House) -> None:
        broker = await house.prepared()
        ask = house.ask(await house.taken(broker))
        (hold,) = await broker.reserve([ask])
        assert isinstance(hold, Hold)
        await broker.commit(house.good_end(hold))
        assert await broker.reserve([ask]) == [Ended(hold.entry_id, await house.allocation("m-1"))]
        await broker.refuse(house.refusal(ask.entry, state="allocated", event="again"))
        assert len(await house.results()) == 1

    async def test_two_workers_with_one_entry_never_both_get_it(self, house: House) -> None:
        first, second = await house.prepared("w-1"), house.broker("w-2")
        entry = await house.taken(first)
        assert isinstance((await first.reserve([house.ask(entry)]))[0], Hold)
        assert await second.reserve([house.ask(entry)]) == [Lost()]

    async def test_an_entry_that_another_settled_under_another_id_is_lost(self, house: House) -> None:
        broker = await house.prepared()
        entry = await house.taken(broker)
        await broker.refuse(house.refusal(entry, "m-1"))
        assert await broker.reserve([house.ask(entry, "m-2")]) == [Lost()]
        assert await house.allocation("m-2") == {}

    async def test_a_duplicate_under_way_is_settled_and_its_sender_is_answered_too(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker, reply_to="mm-1")
        again = await house.taken(broker)
        assert await broker.reserve([house.ask(again, reply_to="mm-2")]) == [Duplicate()]
        assert await house.left() == {"leases": 1}
        await broker.commit(house.good_end(hold))
        assert len(await house.results()) == 1
        assert await house.replies("mm-1") == await house.replies("mm-2") == await house.results()

    async def test_of_many_that_wait_for_one_answer_the_latest_eight_get_it(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker, reply_to="mm-0")
        for number in (*range(1, 9), 3):
            again = await house.taken(broker)
            assert await broker.reserve([house.ask(again, reply_to=f"mm-{number}")]) == [Duplicate()]
        await broker.commit(house.good_end(hold))
        assert [len(await house.replies(f"mm-{number}")) for number in range(9)] == [0] + [1] * 8

    async def test_the_same_id_twice_in_one_batch_is_one_request(self, house: House) -> None:
        broker = await house.prepared()
        asks = [house.ask(await house.taken(broker)) for _ in range(2)]
        first, second = await broker.reserve(asks)
        assert isinstance(first, Hold)
        assert second == Duplicate()

    async def test_one_entry_id_on_two_streams_is_two_entries(self, house: House) -> None:
        broker = await house.prepared()
        high = await house.taken(broker, priority=Priority.HIGH)
        await house.add(b"{}", Priority.LOW, entry_id=high.entry_id)
        (low,) = await broker.take(1, list(Priority))
        assert low.entry_id == high.entry_id
        first, second = await broker.reserve([house.ask(high), house.ask(low)])
        assert isinstance(first, Hold)
        assert second == Duplicate()
        assert await house.left() == {"leases": 1}

    async def test_two_requests_whose_entries_bear_one_id_have_each_their_fence(self, house: House) -> None:
        broker = await house.prepared()
        high = await house.taken(broker, priority=Priority.HIGH)
        await house.add(b"{}", Priority.LOW, entry_id=high.entry_id)
        (low,) = await broker.take(1, list(Priority))
        first, second = await broker.reserve([house.ask(high, "m-1"), house.ask(low, "m-2")])
        assert isinstance(first, Hold)
        assert isinstance(second, Hold)
        assert first.fence != second.fence

    async def test_one_that_has_ended_is_told_with_its_owning_entry_and_whole_hash(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker, context="[1]")
        assert await broker.commit(house.good_end(hold)) == Done()
        again = await house.taken(broker)
        assert await broker.reserve([house.ask(again)]) == [Ended(hold.entry_id, await house.allocation("m-1"))]
        event = house.good_end(hold).event
        await broker.refuse(house.refusal(again, state="allocated", event=event, reply_to="mm-9"))
        assert await house.results() == [("m-1", "allocated", event)] * 2
        assert await house.replies("mm-9") == [("m-1", "allocated", event)]
        assert await house.left() == {}

    async def test_an_end_whose_hash_someone_deleted_is_still_an_end(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        await broker.commit(house.good_end(hold))
        await house.drop_allocation("m-1")
        again = await house.taken(broker)
        bare = {"state": "allocated", "final": "1", "request_id": "m-1"}
        assert await broker.reserve([house.ask(again)]) == [Ended(hold.entry_id, bare)]

    @pytest.mark.parametrize("ended", [False, True])
    async def test_another_body_is_refused_and_the_hash_stays_as_it_is(self, house: House, *, ended: bool) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        if ended:
            await broker.commit(house.good_end(hold))
        before = await house.allocation("m-1")
        other = await house.taken(broker, b"other")
        assert await broker.reserve([house.ask(other, digest="other")]) == [OtherBody()]
        await broker.refuse(house.refusal(other, reply_to="mm-1"))
        assert await house.allocation("m-1") == before
        assert await house.replies("mm-1") == [("m-1", "refused", "refused-event")]
        assert await house.left() == ({} if ended else {"leases": 1})

    async def test_a_whole_batch_is_reserved_in_one_step(self, house: House) -> None:
        broker = await house.prepared()
        for number in range(BATCH_MAX):
            await house.add(b"%d" % number)
        entries = await broker.take(BATCH_MAX, list(Priority))
        asks = [house.ask(entry, f"m-{number}", reply_to="mm") for number, entry in enumerate(entries)]
        holds = [reply for reply in await broker.reserve(asks) if isinstance(reply, Hold)]
        assert [hold.raw for hold in holds] == [b"%d" % number for number in range(BATCH_MAX)]
        assert len({hold.fence for hold in holds}) == BATCH_MAX
        assert await broker.renew(holds) == [True] * BATCH_MAX
        await broker.hand_back([(hold, True) for hold in holds])
        assert len(await broker.reclaim(BATCH_MAX)) == BATCH_MAX
        assert await house.left() == {"leases": BATCH_MAX}

    async def test_nothing_asked_is_nothing_answered(self, house: House) -> None:
        broker = await house.prepared()
        assert await broker.reserve([]) == []
        assert await broker.renew([]) == []
        assert await broker.take(0, list(Priority)) == []
        await broker.hand_back([])


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: House) -> House:
        return twin


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: House) -> House:
        return streams
