"""The streams as an inbox: who reads what, what becomes of what is never reserved, and of what makes no request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from allocator.broker.broker import BrokerUnavailable, Depth, Entry, Hold, Lost, NamespaceTaken
from allocator.contract.codes import Code
from allocator.contract.request import Priority

if TYPE_CHECKING:
    from tests.broker.conftest import House

BEST_FIRST = tuple(Priority)


class Promises:
    async def test_preparing_again_changes_nothing(self, house: House) -> None:
        broker = await house.prepared()
        entry = await house.taken(broker)
        await house.broker("w-2").prepare()
        await broker.prepare()
        assert await broker.take(10, BEST_FIRST) == []
        assert isinstance((await broker.reserve([house.ask(entry)]))[0], Hold)

    async def test_a_namespace_of_another_deployment_is_left_alone(self, house: House) -> None:
        await house.prepared()
        with pytest.raises(NamespaceTaken, match="'d'"):
            await house.broker(deployment="other").prepare()
        await house.broker().prepare()

    async def test_what_was_added_before_the_first_worker_is_read_too(self, house: House) -> None:
        entry_id = await house.add(b"early")
        broker = await house.prepared()
        assert await broker.take(10, BEST_FIRST) == [Entry(Priority.NORMAL, entry_id, b"early")]

    async def test_take_reads_in_the_order_given_and_no_more_than_asked(self, house: House) -> None:
        broker = await house.prepared()
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
            for number in range(2):
                await house.add(f"{priority} {number}".encode(), priority)
        first = await broker.take(3, BEST_FIRST)
        assert [entry.raw for entry in first] == [b"high 0", b"high 1", b"normal 0"]
        rest = await broker.take(10, (Priority.LOW, Priority.NORMAL, Priority.HIGH))
        assert [entry.raw for entry in rest] == [b"low 0", b"low 1", b"normal 1"]
        assert await house.broker("w-2").take(10, BEST_FIRST) == []

    async def test_wait_reads_at_once_what_is_there_evenly_over_the_streams(self, house: House) -> None:
        broker = await house.prepared()
        for priority in Priority:
            for _ in range(3):
                await house.add(b"{}", priority)
        taken = await broker.wait(6)
        assert [entry.priority.value for entry in taken] == ["high", "high", "normal", "normal", "low", "low"]
        assert len(await broker.wait(1)) == 3

    async def test_wait_is_woken_by_the_first_entry(self, house: House) -> None:
        broker = await house.prepared()
        waiting = asyncio.ensure_future(broker.wait(10))
        await house.pass_ms(20)
        await asyncio.sleep(0)  # nothing comes for a while
        assert not waiting.done()
        await house.add(b"late", Priority.LOW)
        assert [entry.raw for entry in await waiting] == [b"late"]

    async def test_one_entry_wakes_two_who_wait_and_goes_to_one(self, house: House) -> None:
        first, second = await house.prepared("w-1"), house.broker("w-2")
        waiting = [asyncio.ensure_future(broker.wait(10)) for broker in (first, second)]
        await house.pass_ms(20)
        await asyncio.sleep(0)  # both wait
        await house.add(b"1")
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [[entry.raw for entry in each.result()] for each in done] == [[b"1"]]
        await house.add(b"2")
        assert [[entry.raw for entry in await each] for each in rest] == [[b"2"]]

    async def test_an_entry_without_the_field_is_read_as_none(self, house: House) -> None:
        broker = await house.prepared()
        await house.add(None)
        (entry,) = await broker.take(10, BEST_FIRST)
        assert entry.raw is None
        await broker.refuse(house.refusal(entry, None, bury=True))
        assert await house.dead_letters() == [("invalid_request", "", b"")]

    async def test_what_was_read_and_never_reserved_is_taken_over_by_whomever(self, house: House) -> None:
        broker, second = await house.prepared(), house.broker("w-2")
        mine = [await house.taken(broker, b"%d" % number, Priority.HIGH) for number in range(3)]
        assert await second.strays(10, 30) == []
        await house.pass_ms(40)
        assert await broker.strays(1, 30) == mine[:1]
        assert await second.strays(10, 30) == mine[1:]
        assert await second.strays(10, 30) == []
        assert isinstance((await second.reserve([house.ask(mine[2])]))[0], Hold)
        assert await broker.reserve([house.ask(mine[2])]) == [Lost()]
        await house.pass_ms(40)
        assert await second.strays(10, 30) == mine[:2]

    async def test_strays_of_all_streams_are_no_more_than_asked(self, house: House) -> None:
        broker = await house.prepared()
        entries = [await house.taken(broker, priority=priority) for priority in Priority]
        await house.pass_ms(5)
        assert await broker.strays(2, 1) == entries[:2]

    async def test_what_cannot_be_read_is_kept_as_a_dead_letter_with_its_bytes(self, house: House) -> None:
        broker = await house.prepared()
        entry = await house.taken(broker, b"\xff\x00not json")
        refusal = house.refusal(entry, None, bury=True)
        await broker.refuse(refusal)
        await broker.refuse(refusal)
        assert await house.dead_letters() == [(Code.INVALID_REQUEST.value, "", b"\xff\x00not json")]
        assert await house.results() == []
        assert await house.left() == {}

    async def test_an_invalid_body_fails_the_new_id_that_it_names(self, house: House) -> None:
        broker = await house.prepared()
        entry = await house.taken(broker, b"bad")
        failing = house.failing(entry, reply_to="mm-1")
        await broker.refuse(failing)
        await broker.refuse(failing)
        assert await house.allocation("m-1") == failing.failure
        assert await house.keeps_ms("m-1") == pytest.approx(7_200_000, abs=2000)
        assert await house.results() == await house.replies("mm-1") == [("m-1", "failed", "failed-event")]
        assert await house.dead_letters() == [("invalid_request", "m-1", b"bad")]
        assert await house.left() == {}

    @pytest.mark.parametrize("ended", [False, True])
    async def test_an_invalid_body_of_a_known_id_refuses_and_leaves_it_as_it_is(
        self, house: House, *, ended: bool
    ) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        if ended:
            await broker.commit(house.good_end(hold))
        before, said = await house.allocation("m-1"), await house.results()
        await broker.refuse(house.failing(await house.taken(broker, b"bad"), reply_to="mm-1"))
        assert await house.allocation("m-1") == before
        assert await house.results() == [*said, ("m-1", "refused", "refused-event")]
        assert await house.replies("mm-1") == [("m-1", "refused", "refused-event")]
        assert await house.dead_letters() == [("invalid_request", "m-1", b"bad")]

    async def test_an_invalid_body_sent_again_is_refused(self, house: House) -> None:
        broker = await house.prepared()
        for _ in range(2):
            await broker.refuse(house.failing(await house.taken(broker, b"bad")))
        assert [state for _, state, _ in await house.results()] == ["failed", "refused"]

    async def test_the_survey_counts_what_waits_and_what_is_held(self, house: House) -> None:
        broker = await house.prepared()
        await house.held(broker)
        await house.taken(broker, priority=Priority.HIGH)
        await house.pass_ms(5)
        assert (await broker.survey()).depths[Priority.HIGH] == Depth(0, 1, 0.0)
        await house.add(b"1", Priority.HIGH)
        await house.pass_ms(30)
        await house.add(b"2", Priority.HIGH)
        survey = await broker.survey()
        assert (survey.held, survey.condemned) == (1, 0)
        high = survey.depths[Priority.HIGH]
        assert (high.untaken, high.pending) == (2, 1)
        assert 0.03 <= high.oldest_seconds < 2
        assert survey.depths[Priority.LOW] == survey.depths[Priority.NORMAL] == Depth(0, 0, 0.0)

    async def test_a_flushed_broker_is_made_anew_and_says_so_once(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        await house.flush()
        with pytest.raises(BrokerUnavailable) as told:
            await broker.take(10, BEST_FIRST)
        assert told.value.kind == "no_group"
        assert await broker.renew([hold]) == [False]
        assert isinstance(await house.held(broker), Hold)

    async def test_a_broker_flushed_under_one_that_waits_is_made_anew(self, house: House) -> None:
        broker = await house.prepared()
        waiting = asyncio.ensure_future(broker.wait(10))
        await house.pass_ms(20)
        await asyncio.sleep(0)  # it waits
        await house.flush()
        with pytest.raises(BrokerUnavailable) as told:
            await waiting
        assert told.value.kind == "no_group"
        assert isinstance(await house.held(broker), Hold)

    async def test_leaving_drops_nothing_that_is_pending(self, house: House) -> None:
        broker, second = await house.prepared(), house.broker("w-2")
        entry = await house.taken(broker)
        await broker.close()
        await house.pass_ms(5)
        assert await second.strays(10, 1) == [entry]


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: House) -> House:
        return twin


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: House) -> House:
        return streams
