"""Requests that wait in the broker, on the twin and on real servers: parking, calling, waking, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker import memory_parking, streams_parking
from allocator.broker.aftermath import Aftermath
from allocator.broker.broker import BATCH_MAX, Broker, Condemned, Done, Duplicate, Hold, Stale
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.broker.memory_parking import MemoryParking
from allocator.broker.parking import Arrivals, Parking, Stay, Want
from allocator.broker.steps import Steps
from allocator.broker.streams import StreamsBroker
from allocator.broker.streams_aftermath import StreamsAftermath
from allocator.broker.streams_parking import StreamsParking
from allocator.contract.allocation import Attempt, Outcome, encode_attempts
from allocator.contract.codes import Code
from allocator.contract.request import Priority

if TYPE_CHECKING:
    from tests.broker.conftest import House, StreamsHouse, TwinHouse

HIGH, NORMAL, LOW = Priority
EUROPE, US = "gameye/europe", "gameye/us-east"
LEASE_MS = 60_000
LONG_MS = 30_000
ATTEMPTS = (Attempt("europe", "gameye", "europe", Outcome.NO_CAPACITY, 420, 1_700_000_000_000, 12.5, 0.25),)
TRAIL = '[{"step":"parked"}]'


def parking_of(house: Any, worker: str = "w-1", *, lease_ms: int = LEASE_MS) -> Parking:
    """The car park beside the brokers of a house."""
    if hasattr(house, "store"):
        return MemoryParking(house.store, lease_ms=lease_ms, fence=house.fence)
    broker = house.broker(worker)
    assert isinstance(broker, StreamsBroker)
    return StreamsParking(
        broker.steps, house.keys, lease_ms=lease_ms, fence=house.fence, loss_ms=broker.loss_ms, now_ms=broker.now_ms
    )


def aftermath_of(house: Any) -> Aftermath:
    """The aftermath beside them."""
    if hasattr(house, "store"):
        return MemoryAftermath(house.store, lease_ms=LEASE_MS, result_ttl_ms=7_200_000, fence=house.fence)
    broker = house.broker()
    return StreamsAftermath(
        Steps(house.connection, broker.prepare),
        house.keys,
        worker="w-1",
        lease_ms=LEASE_MS,
        result_ttl_ms=7_200_000,
        results_max_age_ms=3_600_000,
        fence=house.fence,
        now_ms=broker.now_ms,
    )


async def held(house: House, broker: Broker, name: str, priority: Priority = NORMAL, **ask: Any) -> Hold:
    """A request of this priority that this broker has reserved."""
    (hold,) = await broker.reserve([house.ask(await house.taken(broker, b"{}", priority), name, **ask)])
    assert isinstance(hold, Hold)
    return hold


async def parked(
    house: House, broker: Broker, name: str, priority: Priority = NORMAL, *, lots: Sequence[str] = (EUROPE,), **ask: Any
) -> Hold:
    """A request that waits in these lots; gives the hold that it was parked by."""
    hold = await held(house, broker, name, priority, **ask)
    stay = Stay(hold, tuple(lots), broker.now_ms() + LONG_MS)
    assert await parking_of(house).park(stay)
    return hold


def names(arrivals: Arrivals) -> list[str]:
    return [hold.request_id for hold, _ in arrivals.holds]


async def standing(house: Any) -> dict[str, int]:
    """Who stands where, by the ends of the keys' names; empty: nobody anywhere."""
    if hasattr(house, "store"):
        counts = {f"{lot}:{priority.value}": len(line) for (lot, priority), line in house.store.lots.items()}
        counts["parked"] = len(house.store.parked)
        return {name: count for name, count in counts.items() if count}
    connection, keys = house.connection, house.keys
    counts = {"parked": await connection.execute("SCARD", keys.parked)}
    for name in await connection.execute("KEYS", keys.lots.replace("{", "[{]").replace("}", "[}]") + "*"):
        counts[name.decode().removeprefix(keys.lots)] = await connection.execute("ZCARD", name)
    return {name: count for name, count in counts.items() if count}


@pytest.fixture
def keys_without_ttl(keys_without_ttl: tuple[str, ...]) -> tuple[str, ...]:
    """A lot is there while someone stands in it."""
    return (*keys_without_ttl, "internal:parked:*")


class Promises:
    async def test_who_is_parked_is_let_go_and_its_hash_says_why_it_waits(self, house: House) -> None:
        broker = await house.prepared()
        hold = await held(house, broker, "m-1")
        stay = Stay(hold, (EUROPE, US), broker.now_ms() + LONG_MS, ATTEMPTS, Code.NO_CAPACITY, "europe is full", TRAIL)
        assert await parking_of(house).park(stay) is True
        fields = await house.allocation("m-1")
        assert (fields["state"], fields["error_code"]) == ("parked", "no_capacity")
        assert (fields["error_message"], fields["attempts"]) == ("europe is full", encode_attempts(ATTEMPTS))
        assert await standing(house) == {"parked": 1, f"{EUROPE}:normal": 1, f"{US}:normal": 1}
        survey = await broker.survey()
        assert (survey.held, survey.parked) == (0, 1)
        assert await broker.reclaim(10) == []

    async def test_the_former_fence_changes_nothing_any_more(self, house: House) -> None:
        broker = await house.prepared()
        hold = await parked(house, broker, "m-1")
        assert await broker.renew([hold]) == [False]
        assert await broker.note(hold, ATTEMPTS, Code.NO_CAPACITY, "full") is False
        assert await broker.next_generation(hold, []) is None
        assert await broker.commit(house.good_end(hold)) == Stale()
        await broker.hand_back([(hold, False)])
        assert await broker.reclaim(10) == []
        fields = await house.allocation("m-1")
        assert (fields["state"], "error_code" in fields, "attempts" in fields) == ("parked", False, False)

    async def test_parking_again_is_harmless_and_parking_what_is_not_ours_does_nothing(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        hold = await parked(house, broker, "m-1")
        again = Stay(hold, (US,), broker.now_ms())
        assert await parking.park(again) is True
        assert await standing(house) == {"parked": 1, f"{EUROPE}:normal": 1}
        assert await broker.reclaim(10) == []
        ((new, _),) = (await parking.claim([Want(EUROPE, 1)], 1)).holds
        assert await parking.park(again) is False
        assert await broker.commit(house.bad_end(new)) == Done()
        assert await parking.park(Stay(new, (US,), broker.now_ms())) is False
        assert await parking.park(Stay(replace(new, request_id="m-9"), (US,), broker.now_ms())) is False
        assert await standing(house) == {}

    async def test_who_is_called_comes_as_it_went_under_a_new_fence(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        hold = await held(house, broker, "m-1")
        assert await broker.next_generation(hold, []) == 2
        stay = Stay(hold, (EUROPE, US), broker.now_ms() + LONG_MS, ATTEMPTS, Code.NO_CAPACITY, "full", TRAIL)
        await parking.park(stay)
        ((new, lot),) = (await parking.claim([Want(US, 5)], 5)).holds
        assert lot == US
        assert new == replace(hold, fence=new.fence, generation=2, attempts=ATTEMPTS, trail=TRAIL)
        assert new.fence not in (hold.fence, f"{hold.fence}~")
        assert await standing(house) == {}
        fields = await house.allocation("m-1")
        assert (fields["state"], fields["error_code"]) == ("allocating", "no_capacity")
        assert await broker.renew([new]) == [True]
        assert await broker.commit(house.good_end(new)) == Done()

    async def test_the_best_are_called_first_by_priority_then_by_deadline(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        await parked(house, broker, "m-1", LOW, timeout_ms=40_000)
        await parked(house, broker, "m-2", NORMAL, timeout_ms=60_000)
        await parked(house, broker, "m-3", NORMAL, timeout_ms=50_000)
        await parked(house, broker, "m-4", HIGH, timeout_ms=80_000)
        assert names(await parking.claim([Want(EUROPE, 3)], 256)) == ["m-4", "m-3", "m-2"]
        assert names(await parking.claim([Want(EUROPE, 3)], 256)) == ["m-1"]

    async def test_only_the_lots_that_were_asked_for_are_called_and_no_more_than_they_want(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        for number in range(4):
            await parked(house, broker, f"m-{number}", lots=(EUROPE,), timeout_ms=40_000 + number)
        await parked(house, broker, "m-4", lots=(US,))
        await parked(house, broker, "m-5", HIGH, lots=("gameye/asia",))
        first = await parking.claim([Want(EUROPE, 2), Want(US, 9)], 256)
        assert [(hold.request_id, lot) for hold, lot in first.holds] == [("m-0", EUROPE), ("m-1", EUROPE), ("m-4", US)]
        assert first.waiting == {EUROPE: {HIGH: 0, NORMAL: 2, LOW: 0}}
        assert first.parked == 3
        assert names(await parking.claim([Want(EUROPE, 9), Want("gameye/asia", 9)], 1)) == ["m-2"]
        heard = await parking.claim([Want("gameye/asia", 0), Want(EUROPE, 0), Want("gameye/nowhere", 3)], 256)
        assert heard == Arrivals(
            (), {"gameye/asia": {HIGH: 1, NORMAL: 0, LOW: 0}, EUROPE: {HIGH: 0, NORMAL: 1, LOW: 0}}, 2
        )
        assert await parking.claim([], 256) == Arrivals(parked=2)

    async def test_where_nobody_is_parked_nothing_arrives(self, house: House) -> None:
        await house.prepared()
        assert await parking_of(house).claim([Want(EUROPE, 5)], 5) == Arrivals()

    @pytest.mark.parametrize("count", [1, 3, 100])
    async def test_of_ten_called_one_is_of_the_lowest_priority_however_few_are_called_at_once(
        self, house: House, count: int
    ) -> None:
        broker = await house.prepared()
        for number in range(30):
            await parked(house, broker, f"h-{number}", HIGH)
        for number in range(4):
            await parked(house, broker, f"n-{number}", NORMAL)
            await parked(house, broker, f"l-{number}", LOW)
        called: list[str] = []
        while len(called) < 30:
            for worker in ("w-1", "w-2"):
                arrivals = await parking_of(house, worker).claim([Want(EUROPE, count)], count)
                called += [hold.priority.value for hold, _ in arrivals.holds]
        for start in range(21):
            ten = called[start : start + 10]
            assert (ten.count("low"), ten.count("normal")) == (1, 1), called

    async def test_without_low_ones_the_tenth_is_a_normal_one(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        for number in range(20):
            await parked(house, broker, f"h-{number}", HIGH)
        for number in range(3):
            await parked(house, broker, f"n-{number}", NORMAL)
        called = [hold.priority for hold, _ in (await parking.claim([Want(EUROPE, 20)], 20)).holds]
        assert [number for number, each in enumerate(called, 1) if each is NORMAL] == [10, 20]

    async def test_a_lot_that_nobody_has_served_for_a_while_is_told_until_it_is_empty(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (memory_parking, streams_parking):
            monkeypatch.setattr(module, "STRANDED_MS", 50)
        broker, parking = await house.prepared(), parking_of(house)
        assert await parking.stranded([EUROPE]) == []
        await parked(house, broker, "m-1", HIGH, lots=(EUROPE, US))
        await parked(house, broker, "m-2", LOW, lots=(EUROPE,))
        assert await parking.stranded([]) == []
        await house.pass_ms(55)
        assert await parking.stranded([US, "gameye/asia"]) == [EUROPE]
        assert await parking_of(house, "w-2").stranded([]) == [EUROPE]
        assert names(await parking.claim([Want(EUROPE, 1)], 1)) == ["m-1"]
        await house.pass_ms(55)
        assert await parking.stranded([]) == [EUROPE]
        assert names(await parking.claim([Want(EUROPE, 1)], 1)) == ["m-2"]
        assert await parking.stranded([]) == []

    async def test_whoever_parks_one_serves_its_lot(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (memory_parking, streams_parking):
            monkeypatch.setattr(module, "STRANDED_MS", 50)
        broker, parking = await house.prepared(), parking_of(house)
        await parked(house, broker, "m-1")
        await house.pass_ms(55)
        await parked(house, broker, "m-2")
        assert await parking.stranded([]) == []

    async def test_no_name_of_a_lot_outlives_those_who_are_parked(self, house: Any) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        await parked(house, broker, "m-1")
        await parking.claim([Want(EUROPE, 1)], 1)
        await parking.claim([], 1)
        if hasattr(house, "store"):
            assert house.store.lots_served_ms == {}
        else:
            assert not await house.connection.execute("EXISTS", house.keys.lot_names)

    async def test_two_who_claim_never_get_the_same(self, house: House) -> None:
        broker = await house.prepared()
        for number in range(20):
            await parked(house, broker, f"m-{number}", lots=(EUROPE, US))
        first, second = parking_of(house), parking_of(house, "w-2")
        claims = [side.claim([Want(EUROPE, 3), Want(US, 3)], 5) for side in (first, second) * 2]
        got = [name for arrivals in await asyncio.gather(*claims) for name in names(arrivals)]
        assert len(got) == len(set(got)) == 20

    async def test_who_is_called_by_nobody_is_woken_in_time_and_stands_in_no_lot(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        hold = await held(house, broker, "m-1")
        await parking.park(Stay(hold, (EUROPE, US), broker.now_ms() + 30, ATTEMPTS, trail=TRAIL))
        await house.pass_ms(35)
        (woken,) = await broker.reclaim(10)
        assert woken == replace(hold, fence=woken.fence, attempts=ATTEMPTS, trail=TRAIL)
        assert await standing(house) == {}
        assert (await house.allocation("m-1"))["state"] == "allocating"
        assert await parking.claim([Want(EUROPE, 5)], 5) == Arrivals()
        assert (await broker.survey()).held == 1

    async def test_without_a_lot_one_waits_for_the_time_alone(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        await parking.park(Stay(await held(house, broker, "m-1"), (), broker.now_ms() + 30))
        assert await parking.claim([Want(EUROPE, 5)], 5) == Arrivals(parked=1)
        await house.pass_ms(35)
        assert [hold.request_id for hold in await broker.reclaim(10)] == ["m-1"]
        assert await standing(house) == {}

    async def test_nobody_sleeps_past_the_deadline(self, house: House) -> None:
        broker = await house.prepared()
        await parked(house, broker, "m-1", timeout_ms=100)
        await house.pass_ms(105)
        assert [hold.request_id for hold in await broker.reclaim(10)] == ["m-1"]

    async def test_who_is_cancelled_stands_in_no_lot_and_has_left_no_call_unanswered(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        hold = await held(house, broker, "m-1")
        await parking.park(Stay(hold, (EUROPE, US), broker.now_ms() + LONG_MS, ATTEMPTS, trail=TRAIL))
        seized = await aftermath_of(house).seize("m-1")
        assert isinstance(seized, Hold)
        assert seized == replace(hold, fence=seized.fence, attempts=ATTEMPTS, trail=TRAIL)
        assert await standing(house) == {}
        assert (await house.allocation("m-1"))["state"] == "allocating"
        assert await parking.park(Stay(hold, (EUROPE,), broker.now_ms())) is False
        assert await broker.commit(house.bad_end(seized, Condemned("gameye", "s-1", "cancelled"))) == Done()
        assert await house.left() == {}

    async def test_what_was_claimed_and_dropped_comes_back_and_may_have_been_called(self, house: House) -> None:
        broker = await house.prepared()
        await parked(house, broker, "m-1")
        await parking_of(house, lease_ms=30).claim([Want(EUROPE, 1)], 1)
        await house.pass_ms(35)
        (again,) = await broker.reclaim(10)
        assert (again.uncertain, again.takes) == (True, 2)

    async def test_parked_and_called_many_times_it_counts_as_taken_once(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        hold = await held(house, broker, "m-1")
        for _ in range(7):
            assert await parking.park(Stay(hold, (EUROPE,), broker.now_ms() + LONG_MS))
            ((hold, _),) = (await parking.claim([Want(EUROPE, 1)], 1)).holds
        assert (hold.takes, hold.uncertain, hold.generation) == (1, False, 1)

    async def test_a_request_sent_again_while_it_is_parked_changes_nothing(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        await parked(house, broker, "m-1")
        assert await broker.reserve([house.ask(await house.taken(broker), "m-1", reply_to="mm-2")]) == [Duplicate()]
        assert names(await parking.claim([Want(EUROPE, 1)], 1)) == ["m-1"]

    async def test_a_trail_stays_until_another_takes_its_place_and_outlives_the_end(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        for name, last, kept in (("m-1", "", TRAIL), ("m-2", "[2]", "[2]")):
            hold = await held(house, broker, name)
            for trail in (TRAIL, ""):
                await parking.park(Stay(hold, (EUROPE,), broker.now_ms() + LONG_MS, trail=trail))
                ((hold, _),) = (await parking.claim([Want(EUROPE, 1)], 1)).holds
            assert hold.trail == TRAIL
            await broker.hand_back([(hold, True)])
            (hold,) = await broker.reclaim(1)
            assert hold.trail == TRAIL
            await broker.commit(replace(house.bad_end(hold), trail=last))
            assert await self.kept_trail(house, name) == kept

    async def kept_trail(self, house: Any, name: str) -> str:
        if hasattr(house, "store"):
            return str(house.store.records[name].trail)
        found: bytes = await house.connection.execute("HGET", house.keys.record(name), "trail")
        return found.decode()

    async def test_more_than_a_batch_are_parked_together_and_called_by_the_batch(self, house: House) -> None:
        broker, parking = await house.prepared(), parking_of(house)
        holds = [await held(house, broker, f"m-{number}") for number in range(BATCH_MAX + 10)]
        wake_ms = broker.now_ms() + LONG_MS
        assert all(await asyncio.gather(*(parking.park(Stay(hold, (EUROPE, US), wake_ms)) for hold in holds)))
        first = await parking.claim([Want(EUROPE, 1000)], 1000)
        rest = await parking.claim([Want(EUROPE, 1000)], 1000)
        assert (len(first.holds), first.parked, len(rest.holds), rest.parked) == (BATCH_MAX, 10, 10, 0)
        assert {*names(first), *names(rest)} == {hold.request_id for hold in holds}
        assert len({hold.fence for hold, _ in (*first.holds, *rest.holds)}) == len(holds)
        assert await standing(house) == {}
        await parking.close()


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: TwinHouse) -> TwinHouse:
        return twin


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: StreamsHouse) -> StreamsHouse:
        return streams
