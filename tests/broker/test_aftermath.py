"""What becomes of a request beside its way, on the twin and on real servers: orders, seizing, condemning, releasing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker import memory_aftermath, streams_aftermath
from allocator.broker.aftermath import Aftermath, Order, Over
from allocator.broker.broker import NEVER_MS, BrokerUnavailable, Condemned, Done, Hold, IsCondemned, Stale
from allocator.broker.letters import Unsent
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.broker.memory_store import Record
from allocator.broker.steps import Steps
from allocator.broker.streams import StreamsBroker
from allocator.broker.streams_aftermath import StreamsAftermath
from allocator.broker.streams_letters import StreamsLetters
from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.codes import Code
from allocator.contract.keys import GROUP
from allocator.contract.request import Priority

if TYPE_CHECKING:
    from tests.broker.conftest import House, StreamsHouse, TwinHouse

LEASE_MS = 60_000
RESULT_TTL_MS = 7_200_000
SESSION = ("gameye", "s-1")
RELEASE = Condemned(*SESSION, "release m-1 1-1")
CANCELLED = {"state": "cancelled", "final": "1", "request_id": "m-1"}
ATTEMPTS = (Attempt("europe", "gameye", "europe", Outcome.NO_CAPACITY, 420, 1_700_000_000_000, 12.5, 0.25),)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that finds nothing ends soon."""
    monkeypatch.setattr(streams_aftermath, "BLOCK_MS", 20)
    monkeypatch.setattr(memory_aftermath, "BLOCK_SECONDS", 0.02)


def aftermath_of(house: Any, worker: str = "w-1") -> Aftermath:
    """The aftermath beside the brokers of a house."""
    if hasattr(house, "store"):
        return MemoryAftermath(house.store, lease_ms=LEASE_MS, result_ttl_ms=RESULT_TTL_MS, fence=house.fence)
    broker = house.broker(worker)
    assert isinstance(broker, StreamsBroker)
    return StreamsAftermath(
        Steps(house.connection, broker.prepare),
        house.keys,
        worker=worker,
        lease_ms=LEASE_MS,
        result_ttl_ms=RESULT_TTL_MS,
        results_max_age_ms=3_600_000,
        fence=house.fence,
        now_ms=broker.now_ms,
    )


async def order(house: Any, request_id: str = "m-1") -> None:
    """What a matchmaker does to cancel."""
    await order_by(house, (b"id", request_id.encode()))


async def order_by(house: Any, *fields: tuple[bytes, bytes]) -> None:
    if hasattr(house, "store"):
        house.store.order_by(*fields)
    else:
        words = [word for pair in fields for word in pair]
        await house.connection.execute("XADD", house.keys.cancellations, "*", *words)


NO_ID = [
    ((b"name", b"m-1"), (b"request", b"{}")),
    ((b"id", b""),),
    ((b"id", b"m 1"),),
    ((b"id", b"\xff"), (b"\xfe", b"")),
    ((b"id", b"x" * 129),),
    ((b"id", b"m-1"), (b"id", b"")),
]


async def allocated(house: House, **ask: Any) -> Hold:
    """A request that has been handed its session."""
    broker = await house.prepared()
    hold = await house.held(broker, **ask)
    assert await broker.commit(house.good_end(hold)) == Done()
    return hold


class Promises:
    async def test_an_order_is_read_by_one_and_settled_once(self, house: House) -> None:
        await house.prepared()
        first, second = aftermath_of(house), aftermath_of(house, "w-2")
        for name in ("m-1", "m-2", "m-3"):
            await order(house, name)
        one, two = await first.orders(2), await second.orders(2)
        assert [each.request_id for each in one + two] == ["m-1", "m-2", "m-3"]
        assert await first.orders(2) == []
        for each in one + two:
            await first.settle(each)
            await second.settle(each)
        assert await second.stray_orders(10, 0) == []

    async def test_an_order_that_was_never_settled_comes_again_once_it_is_idle(self, house: House) -> None:
        await house.prepared()
        first, second = aftermath_of(house), aftermath_of(house, "w-2")
        await order(house)
        (read,) = await first.orders(10)
        assert await second.stray_orders(10, LEASE_MS) == []
        await house.pass_ms(12)
        assert await second.stray_orders(10, 10) == [read]
        assert await first.stray_orders(10, LEASE_MS) == []
        await house.pass_ms(12)
        assert await first.stray_orders(1, 10) == [read]

    @pytest.mark.parametrize("fields", NO_ID)
    async def test_an_order_that_names_no_request_is_buried_once_with_what_it_holds(
        self, house: House, fields: tuple[tuple[bytes, bytes], ...]
    ) -> None:
        await house.prepared()
        aftermath = aftermath_of(house)
        await order_by(house, *fields)
        (read,) = await aftermath.orders(10)
        assert (read.request_id, read.fields) == (None, fields)
        assert await aftermath.bury(read, Code.INVALID_REQUEST, "bad")
        assert not await aftermath.bury(read, Code.INVALID_REQUEST, "bad")
        assert await aftermath.stray_orders(10, 0) == []
        ((code, request_id, kept),) = await house.dead_letters()
        assert (code, request_id, kept) == ("invalid_request", "", read.to_json())
        texts = {name.decode(errors="backslashreplace"): value for name, value in fields}
        assert {name: value.encode() for name, value in json.loads(kept).items()} == {
            name: value.replace(b"\xff", rb"\xff") for name, value in texts.items()
        }

    async def test_an_order_that_was_settled_is_not_buried(self, house: House) -> None:
        await house.prepared()
        aftermath = aftermath_of(house)
        await order_by(house, *NO_ID[0])
        (read,) = await aftermath.orders(10)
        await aftermath.settle(read)
        assert not await aftermath.bury(read, Code.INVALID_REQUEST, "bad")
        assert await house.dead_letters() == []

    async def test_a_loss_is_dated_by_whoever_looks_back(self, house: House) -> None:
        broker = await house.prepared()
        assert await broker.look_back() == NEVER_MS
        await broker.look_back()
        await house.flush()
        if hasattr(house, "store"):
            house.store.beat = 0
        lost_at_ms = await broker.look_back()
        assert lost_at_ms == pytest.approx(broker.now_ms(), abs=1000)
        assert await house.broker("w-2").look_back() == lost_at_ms

    async def test_who_is_reserved_after_a_loss_is_doubted_though_nobody_has_looked_back(self, house: House) -> None:
        broker, other = await house.prepared(), house.broker("w-2")
        for each in (broker, other):
            await each.look_back()
        assert not (await house.held(broker, "m-0")).doubtful
        await house.flush()
        if hasattr(house, "store"):
            house.store.beat = 0
        await broker.prepare()
        assert (await house.held(broker, "m-1")).doubtful  # it remembers more than there is
        assert (await house.held(other, "m-2")).doubtful  # it has not looked back since, and is told
        assert other.loss_ms() == broker.loss_ms() > NEVER_MS

    async def test_what_was_handed_back_clean_is_seized_without_suspicion_once(self, house: House) -> None:
        broker, aftermath = await house.prepared(), aftermath_of(house)
        await broker.hand_back([(await house.held(broker), True)])
        first, second = await aftermath.seize("m-1"), await aftermath.seize("m-1")
        assert isinstance(first, Hold)
        assert isinstance(second, Hold)
        assert (first.uncertain, second.uncertain) == (False, True)

    async def test_seizing_makes_the_holders_fence_stale_and_tells_everyone(self, house: House) -> None:
        broker = await house.prepared()
        aftermath, listener = aftermath_of(house), aftermath_of(house, "w-2")
        assert await listener.seized() == []
        old = await house.held(broker, timeout_ms=60_000)
        await broker.note(old, ATTEMPTS, Code.NO_CAPACITY, "full")
        new = await aftermath.seize("m-1")
        assert new == Hold(
            *("m-1", new.fence if isinstance(new, Hold) else "", old.entry_id, old.priority, old.deadline_ms, old.raw),
            uncertain=True,
            attempts=ATTEMPTS,
        )
        assert new.fence != old.fence
        assert await listener.seized() == ["m-1"]
        assert await listener.seized() == []
        assert await broker.renew([old, new]) == [False, True]
        assert await broker.next_generation(old, []) is None
        assert await broker.commit(house.good_end(old)) == Stale()
        await broker.hand_back([(old, True)])
        assert await broker.reclaim(10) == []
        assert await broker.commit(house.bad_end(new)) == Done()

    async def test_what_was_seized_and_dropped_is_taken_over_when_its_lease_ends(self, house: House) -> None:
        broker = await house.prepared()
        await house.held(broker)
        seized = await aftermath_of(house).seize("m-1")
        assert isinstance(seized, Hold)
        await broker.hand_back([(seized, False)])
        (taken,) = await broker.reclaim(10)
        assert (taken.request_id, taken.uncertain) == ("m-1", True)

    async def test_seizing_twice_leaves_it_to_the_last(self, house: House) -> None:
        broker = await house.prepared()
        await house.held(broker)
        first, second = await aftermath_of(house).seize("m-1"), await aftermath_of(house, "w-2").seize("m-1")
        assert isinstance(first, Hold)
        assert isinstance(second, Hold)
        assert await broker.commit(house.bad_end(first)) == Stale()
        assert await broker.commit(house.bad_end(second)) == Done()

    async def test_what_has_ended_is_not_seized_but_told(self, house: House) -> None:
        hold = await allocated(house)
        broker = house.broker()
        other = await house.held(broker, "m-2")
        await broker.commit(house.bad_end(other))
        aftermath = aftermath_of(house)
        assert await aftermath.seize("m-1") == Over("allocated", SESSION, hold.entry_id)
        assert await aftermath.seize("m-2") == Over("expired", None, other.entry_id)
        assert await aftermath.seize("m-3") is None
        assert await aftermath.seized() == []

    async def test_an_unknown_id_is_kept_as_cancelled_and_any_body_of_it_has_ended(self, house: House) -> None:
        broker, aftermath = await house.prepared(), aftermath_of(house)
        cancellation = Order("7-1", "m-1")
        assert await aftermath.forestall(cancellation, CANCELLED, "event")
        assert not await aftermath.forestall(cancellation, CANCELLED, "event")
        assert await house.allocation("m-1") == CANCELLED
        assert await house.keeps_ms("m-1") == pytest.approx(RESULT_TTL_MS, abs=1000)
        assert await house.results() == [("m-1", "cancelled", "event")]
        assert await aftermath.seize("m-1") == Over("cancelled", None, "7-1")
        (reply,) = await broker.reserve([house.ask(await house.taken(broker), digest="any")])
        assert (getattr(reply, "entry_id", None), getattr(reply, "fields", None)) == ("7-1", CANCELLED)

    async def test_an_id_that_someone_asked_for_is_not_forestalled(self, house: House) -> None:
        broker, aftermath = await house.prepared(), aftermath_of(house)
        await house.held(broker)
        before = await house.allocation("m-1")
        assert not await aftermath.forestall(Order("7-1", "m-1"), CANCELLED, "event")
        assert await house.allocation("m-1") == before
        assert await house.results() == []

    async def test_a_record_that_says_nothing_is_as_good_as_none(self, house: House) -> None:
        await house.prepared()
        if hasattr(house, "store"):
            house.store.records["m-1"] = Record("digest", "1-1")
        else:
            await house.connection.execute("HSET", house.keys.record("m-1"), "reply_to", "x")  # type: ignore[attr-defined]  # of the streams' house
        aftermath = aftermath_of(house)
        assert await aftermath.seize("m-1") is None
        assert await aftermath.forestall(Order("7-1", "m-1"), CANCELLED, "event")
        assert await aftermath.seize("m-1") == Over("cancelled", None, "7-1")

    async def test_the_session_in_play_is_condemned_only_to_be_released(self, house: House) -> None:
        await allocated(house)
        aftermath = aftermath_of(house)
        assert not await aftermath.condemn(Condemned(*SESSION, "superseded"), "m-1", release=False)
        assert await house.condemned() == []
        assert await aftermath.condemn(Condemned("gameye", "s-2", "superseded"), "m-1", release=False)
        assert await aftermath.condemn(RELEASE, "m-1", release=True)
        assert await house.condemned() == ["gameye/s-1", "gameye/s-2"]
        due = await house.broker().claim_condemned(10, 1000)
        assert {(each.session_id, each.reason) for each in due} == {("s-2", "superseded"), ("s-1", RELEASE.reason)}

    async def test_a_session_that_was_condemned_is_never_handed_over(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        assert await aftermath_of(house).condemn(Condemned(*SESSION, "by a person"), "m-1", release=False)
        assert await broker.commit(house.good_end(hold)) == IsCondemned()

    async def test_nor_is_one_that_an_end_of_the_same_moment_condemns(self, house: House) -> None:
        broker = await house.prepared()
        left, served = await house.held(broker, "m-1"), await house.held(broker, "m-2")
        ends = (house.bad_end(left, Condemned(*SESSION, "ended expired")), house.good_end(served))
        assert list(await asyncio.gather(*map(broker.commit, ends))) == [Done(), IsCondemned()]

    async def test_a_release_is_told_once_to_all_who_asked_and_keeps_the_answer(self, house: House) -> None:
        hold = await allocated(house, reply_to="mm-7")
        aftermath = aftermath_of(house)
        await aftermath.condemn(RELEASE, "m-1", release=True)
        before = dict(await aftermath.allocation("m-1"))
        assert await aftermath.release("m-1", SESSION, "event")
        assert not await aftermath.release("m-1", SESSION, "event")
        after = await house.allocation("m-1")
        assert after == {**before, "state": "released", "request_id": "m-1", "updated_at": after["updated_at"]}
        assert await house.keeps_ms("m-1") == pytest.approx(RESULT_TTL_MS, abs=1000)
        assert (await house.results())[1:] == [("m-1", "released", "event")]
        assert (await house.replies("mm-7"))[1:] == [("m-1", "released", "event")]
        assert await house.condemned() == []
        assert await aftermath.seize("m-1") == Over("released", SESSION, hold.entry_id)

    async def test_a_release_of_another_session_changes_nothing_but_that_it_is_condemned_no_more(
        self, house: House
    ) -> None:
        await allocated(house)
        aftermath = aftermath_of(house)
        before = await house.allocation("m-1")
        await aftermath.condemn(Condemned("gameye", "s-0", "release m-1 1-1"), "m-1", release=True)
        assert not await aftermath.release("m-1", ("gameye", "s-0"), "event")
        assert not await aftermath.release("m-9", ("gameye", "s-9"), "event")
        assert await house.allocation("m-1") == before
        assert await house.condemned() == []

    async def test_a_release_whose_answer_is_gone_leaves_one_that_can_be_read(self, house: House) -> None:
        await allocated(house)
        await house.drop_allocation("m-1")
        assert await aftermath_of(house).release("m-1", SESSION, "event")
        answer = await house.allocation("m-1")
        assert answer == {
            "state": "released",
            "final": "1",
            "request_id": "m-1",
            "updated_at": answer["updated_at"],
        }


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: TwinHouse) -> TwinHouse:
        return twin


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: StreamsHouse) -> StreamsHouse:
        return streams


async def test_a_settling_that_was_cut_short_leaves_nothing_behind(streams: StreamsHouse) -> None:
    await streams.prepared()
    aftermath = aftermath_of(streams)
    await order(streams)
    (read,) = await aftermath.orders(10)
    await streams.connection.execute("XDEL", streams.keys.cancellations, read.entry_id)
    assert await aftermath.stray_orders(10, 0) == []
    assert (await streams.connection.execute("XPENDING", streams.keys.cancellations, GROUP))[0] == 0


async def test_a_reply_stream_that_is_none_costs_the_others_nothing(streams: StreamsHouse) -> None:
    await allocated(streams, reply_to="mm-7")
    await streams.connection.execute("DEL", streams.keys.results_for("mm-7"))
    await streams.connection.execute("SET", streams.keys.results_for("mm-7"), "x", "EX", 60)
    assert await aftermath_of(streams).release("m-1", SESSION, "event")
    assert (await streams.results())[1:] == [("m-1", "released", "event")]
    assert (await streams.allocation("m-1"))["state"] == "released"


async def test_a_hash_that_is_none_keeps_no_request_from_being_seized_or_released(streams: StreamsHouse) -> None:
    broker, aftermath = await streams.prepared(), aftermath_of(streams)
    await streams.held(broker)
    await streams.connection.execute("SET", streams.keys.allocation("m-1"), "x")
    hold = await aftermath.seize("m-1")
    assert isinstance(hold, Hold)
    assert await broker.commit(streams.good_end(hold)) == Done()
    await streams.connection.execute("SET", streams.keys.allocation("m-1"), "x")
    assert await aftermath.allocation("m-1") == {}
    assert await aftermath.release("m-1", SESSION, json.dumps({}))
    assert (await streams.allocation("m-1"))["state"] == "released"


async def test_a_lost_group_is_made_anew_and_no_order_is_lost(streams: StreamsHouse) -> None:
    await streams.prepared()
    aftermath = aftermath_of(streams)
    await streams.flush()
    await order(streams)
    with pytest.raises(BrokerUnavailable):
        await aftermath.orders(10)
    (read,) = await aftermath.orders(10)
    assert read.request_id == "m-1"
    await aftermath.settle(read)


async def test_a_buried_order_is_listed_opened_and_never_replayed(streams: StreamsHouse) -> None:
    await streams.prepared()
    aftermath, letters = aftermath_of(streams), StreamsLetters(streams.connection, streams.keys)
    await order_by(streams, (b"code", b"poisoned"), (b"stream", streams.keys.requests(Priority.HIGH).encode()))
    (read,) = await aftermath.orders(10)
    await aftermath.bury(read, Code.INVALID_REQUEST, "bad")
    (letter,) = [each async for each in letters.every()]
    assert (letter.code, letter.request_id, letter.stream) == ("invalid_request", None, streams.keys.cancellations)
    assert await letters.replay(letter) == Unsent()
    opened = await letters.open(letter.entry_id)
    assert opened is not None
    assert (opened.request, opened.letter.size_bytes) == (read.to_json(), letter.size_bytes)
    assert await streams.left() == {}
