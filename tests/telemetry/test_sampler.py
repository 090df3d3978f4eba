"""Who tells what is the whole fleet's: one worker at a time, another soon after it is gone, nobody without Redis."""

from __future__ import annotations

import random
from typing import Any

import pytest

from allocator.broker.broker import BrokerUnavailable
from allocator.broker.census import OrphanKind, Tally
from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_census import MemoryCensus
from allocator.broker.memory_store import MemoryStore
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import Surveyed
from allocator.engine.sampler import LEAD_MS, SAMPLE_SECONDS, Sampler
from allocator.gate.gate import Cause, GateUnavailable, Limit, LimitState
from allocator.gate.memory import MemoryGate

EUROPE = Limit("gameye", "studio", "europe", 40.0)
ACCOUNT = Limit("gameye", "studio", "*", None)


class Fleet:
    """Samplers of several workers, on a clock that the test moves."""

    def __init__(self) -> None:
        self.at_ms = 1_800_000_000_000
        self.store = self.partition()
        self.gate = MemoryGate(probe_hold_seconds=1.0, chance=random.Random(1))

    def partition(self) -> MemoryStore:
        return MemoryStore(lambda: self.at_ms)

    def sampler(self, *partitions: MemoryStore) -> tuple[Sampler, list[Surveyed]]:
        heard: list[Any] = []
        records = [(self._broker(store), MemoryCensus(store)) for store in partitions or (self.store,)]
        limits = [EUROPE, ACCOUNT]
        return Sampler(records, self.gate, heard.append, providers=["gameye"], limits=lambda: limits), heard

    def _broker(self, store: MemoryStore) -> MemoryBroker:
        return MemoryBroker(store, deployment="d", lease_ms=1000, result_ttl_ms=1000, fence=lambda: "f")


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def test_of_a_fleet_one_worker_tells_and_goes_on_telling(fleet: Fleet) -> None:
    (first, heard), (second, heard_by_second) = fleet.sampler(), fleet.sampler()
    for _ in range(5):
        await first.look()
        await second.look()
        fleet.at_ms += round(SAMPLE_SECONDS * 1000)
    assert (len(heard), len(heard_by_second)) == (5, 0)
    assert all(5.0 < each.good_for_seconds <= LEAD_MS / 1000 for each in heard)


async def test_when_it_is_gone_another_tells_once_what_it_told_is_good_no_more(fleet: Fleet) -> None:
    (first, heard), (second, heard_by_second) = fleet.sampler(), fleet.sampler()
    await first.look()
    good_until_ms = fleet.at_ms + heard[0].good_for_seconds * 1000
    while not heard_by_second:
        fleet.at_ms += 500
        await second.look()
    assert good_until_ms <= fleet.at_ms <= good_until_ms + 1000
    await first.look()
    assert len(heard) == 1


async def test_the_sample_is_of_queues_gates_and_orphans(fleet: Fleet) -> None:
    sampler, heard = fleet.sampler()
    await sampler.look()
    assert heard[-1].orphans is None, "nobody has counted them yet"
    await fleet.gate.shut(ACCOUNT, Cause.CREDENTIAL, 10.0)
    await MemoryCensus(fleet.store).keep("gameye", Tally({OrphanKind.UNEXPLAINED: 2, OrphanKind.SUPERSEDED: 0}, 1), ())
    await fleet.sampler()[0]._records[0][0].prepare()
    for priority in (Priority.HIGH, Priority.LOW, Priority.LOW):
        fleet.store.add(b"{}", priority)
    await sampler.look()
    told = heard[-1]
    assert {priority: depth.untaken for priority, depth in told.survey.depths.items()} == {
        Priority.HIGH: 1,
        Priority.NORMAL: 0,
        Priority.LOW: 2,
    }
    assert told.gates[Destination("gameye", "europe")] == LimitState(40.0)
    account = told.gates[Destination("gameye", "*")]
    assert (account.rate, account.cause, account.closed_seconds > 9) == (None, Cause.CREDENTIAL, True)
    assert (told.orphans, told.condemned_alive) == ({"unexplained": 2, "superseded": 0}, 1)


async def test_partitions_are_told_as_one_sum_and_the_oldest_of_all(fleet: Fleet) -> None:
    partitions = (fleet.store, fleet.partition())
    sampler, heard = fleet.sampler(*partitions)
    for store, count in zip(partitions, (1, 2), strict=True):
        await fleet._broker(store).prepare()
        for _ in range(count):
            store.add(b"{}")
        fleet.at_ms += 1000
    await sampler.look()
    depth = heard[-1].survey.depths[Priority.NORMAL]
    assert (depth.untaken, depth.oldest_seconds) == (3, 2.0)
    other, heard_by_other = fleet.sampler(*partitions)
    await other.look()
    assert heard_by_other == [], "who leads in the first leads in all"


async def test_gates_that_cannot_be_asked_leave_the_rest_told(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(_limits: object) -> list[LimitState]:
        raise GateUnavailable

    monkeypatch.setattr(fleet.gate, "states", unavailable)
    sampler, heard = fleet.sampler()
    await sampler.look()
    assert heard[-1].gates == {}
    assert heard[-1].survey.held == 0


async def test_without_redis_nobody_tells(fleet: Fleet) -> None:
    sampler, heard = fleet.sampler()
    fleet.store.away = True
    with pytest.raises(BrokerUnavailable):
        await sampler.look()
    assert heard == []
