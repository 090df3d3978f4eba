"""Both car parks are told the same steps in the same order, and never answer differently.

Deadlines are counted from the twin's entry ids on both sides and lie a day ahead; who is to be woken is woken at once.
Fences are left out of what is compared: which of them hold shows in what is answered to them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.broker.aftermath import Aftermath
from allocator.broker.broker import Broker, Hold
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.broker.memory_parking import MemoryParking
from allocator.broker.parking import Arrivals, Parking, Stay, Want
from allocator.broker.streams import StreamsBroker
from allocator.broker.streams_aftermath import StreamsAftermath
from allocator.broker.streams_parking import StreamsParking
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from tests.broker.differential import DRAWN, on_both

if TYPE_CHECKING:
    from tests.broker.conftest import House, StreamsHouse, TwinHouse
    from tests.conftest import TestServer

DAY_MS = 86_400_000
LEASE_MS = 60_000
LOTS = ("a/x", "a/y", "b/x y")

back = st.integers(1, 6)
lots = st.lists(st.sampled_from(LOTS), max_size=3).map(tuple)
wants = st.lists(st.builds(Want, st.sampled_from(LOTS), st.integers(0, 4)), max_size=3)
STEP = st.one_of(
    *[st.tuples(st.just("arrive"), st.sampled_from(Priority), st.integers(0, 3), lots)] * 4,
    *[st.tuples(st.just("claim"), wants, st.integers(0, 6))] * 3,
    *[st.tuples(st.just("park"), back, lots, st.booleans(), st.sampled_from(("", "[1]", "[2]")))] * 3,
    st.tuples(st.just("wake"), back, lots),
    st.tuples(st.just("seize"), back),
    st.tuples(st.just("end"), back),
    st.tuples(st.just("renew"), back),
)
STEPS = st.lists(STEP, min_size=30, max_size=60)
LOOK_EVERY = 4
"""After so many steps all that can be seen is compared as well."""


class Side:
    """One house, and the holds it gave so far."""

    def __init__(self, house: House, broker: Broker, parking: Parking, aftermath: Aftermath) -> None:
        self.house, self.broker, self.parking, self.aftermath = house, broker, parking, aftermath
        self.holds: list[Hold] = []
        self.wake_ms = broker.now_ms() + DAY_MS // 2

    async def do(self, step: str, *args: Any) -> Any:
        return _unfenced(await getattr(self, f"_{step}")(*args))

    async def _arrive(self, priority: Priority, sooner: int, into: tuple[str, ...]) -> Any:
        (entry,) = await self.broker.take(1, (priority,))
        ask = self.house.ask(entry, (entry.raw or b"").decode(), timeout_ms=DAY_MS - sooner * 1000)
        (hold,) = await self.broker.reserve([ask])
        assert isinstance(hold, Hold)
        self.holds.append(hold)
        return hold, await self.parking.park(Stay(hold, into, self.wake_ms))

    async def _claim(self, asked: list[Want], count: int) -> Any:
        arrivals = await self.parking.claim(asked, count)
        self.holds += [hold for hold, _ in arrivals.holds]
        return arrivals

    async def _park(self, number: int, into: tuple[str, ...], pushed: bool, trail: str) -> Any:  # noqa: FBT001 - a step's own argument
        if (hold := self._late(number)) is not None:
            code, message = (Code.NO_CAPACITY, "full") if pushed else (None, "")
            return await self.parking.park(Stay(hold, into, self.wake_ms, (), code, message, trail))
        return None

    async def _wake(self, number: int, into: tuple[str, ...]) -> Any:
        if (hold := self._late(number)) is not None:
            await self.parking.park(Stay(hold, into, 0))
        woken = await self.broker.reclaim(10)
        self.holds += woken
        return woken

    async def _seize(self, number: int) -> Any:
        hold = self._late(number)
        seized = await self.aftermath.seize(hold.request_id) if hold is not None else None
        if isinstance(seized, Hold):
            self.holds.append(seized)
        return seized

    async def _end(self, number: int) -> Any:
        hold = self._late(number)
        return await self.broker.commit(replace(self.house.bad_end(hold), trail="[3]")) if hold else None

    async def _renew(self, number: int) -> Any:
        hold = self._late(number)
        return await self.broker.renew([hold]) if hold else None

    def _late(self, number: int) -> Hold | None:
        return self.holds[-min(number, len(self.holds))] if self.holds else None

    async def seen(self) -> Any:
        """All that can be seen from outside."""
        survey, everyone = await self.broker.survey(), [Want(lot, 0) for lot in LOTS]
        known = sorted({hold.request_id for hold in self.holds})
        hashes = [await self.house.allocation(each) for each in known]
        said = [{name: value for name, value in each.items() if name != "updated_at"} for each in hashes]
        return survey.held, survey.parked, await self.parking.claim(everyone, 0), said


def _unfenced(answer: Any) -> Any:
    match answer:
        case Hold():
            return replace(answer, fence="")
        case Arrivals():
            return replace(answer, holds=_unfenced(answer.holds))
        case list() | tuple():
            return [_unfenced(each) for each in answer]
    return answer


async def run_both(twin_house: TwinHouse, real_house: StreamsHouse, steps: list[tuple[Any, ...]]) -> None:
    twin_house.now_ms = int(time.time() * 1000)
    counts = {"lease_ms": LEASE_MS, "result_ttl_ms": DAY_MS}
    fence = twin_house.fence
    twin = Side(
        twin_house,
        twin_house.broker(),
        MemoryParking(twin_house.store, lease_ms=LEASE_MS, fence=fence),
        MemoryAftermath(twin_house.store, **counts, fence=fence),
    )
    broker = real_house.broker()
    assert isinstance(broker, StreamsBroker)
    steps_of, keys, fence = broker.steps, real_house.keys, real_house.fence
    real = Side(
        real_house,
        broker,
        StreamsParking(steps_of, keys, lease_ms=LEASE_MS, fence=fence, loss_ms=broker.loss_ms, now_ms=broker.now_ms),
        StreamsAftermath(
            steps_of, keys, worker="w-1", **counts, results_max_age_ms=DAY_MS, fence=fence, now_ms=broker.now_ms
        ),
    )
    for side in (twin, real):
        await side.broker.prepare()
    for number, step in enumerate(steps):
        if step[0] == "arrive":
            name = f"m-{number}".encode()
            await real_house.add(name, step[1], entry_id=await twin_house.add(name, step[1]))
        assert await real.do(*step) == await twin.do(*step), step
        if number % LOOK_EVERY == 0 or number == len(steps) - 1:
            assert await real.seen() == await twin.seen(), step


@given(steps=STEPS)
@settings(DRAWN, max_examples=20)
def test_the_twin_and_the_server_never_park_or_call_differently(
    redis_server: TestServer,
    twin_class: type[TwinHouse],
    streams_class: type[StreamsHouse],
    steps: list[tuple[Any, ...]],
) -> None:
    on_both(partial(run_both, steps=steps), redis_server, twin_class, streams_class)
