"""A worker's view of the broker, its aftermath, the census and the gate: the twins behind a wire.

In: the ports' values. Out: the ports' replies, or what each port says of a server that cannot be asked. What goes
wrong is the wires' to draw; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from allocator.broker.aftermath import Order, Over
from allocator.broker.broker import (
    BrokerUnavailable,
    CommitReply,
    Condemned,
    Ending,
    Entry,
    Hold,
    Refusal,
    Reservation,
    ReserveReply,
    Survey,
)
from allocator.broker.census import Orphan, Sighting, Snapshot, Standing, Tally
from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.broker.memory_census import MemoryCensus
from allocator.broker.memory_parking import MemoryParking
from allocator.broker.parking import Arrivals, Stay, Want
from allocator.contract.allocation import Attempt
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from allocator.gate.gate import Ask, Cause, GateUnavailable, Grant, Limit, LimitState, Verdict
from allocator.gate.memory import MemoryGate
from tests.simulation.trace import Trace
from tests.simulation.wire import Broken, Wire

T = TypeVar("T")


class BrokerView:
    """The broker over a wire; `skew_ms` is how far this worker's view of the broker's clock is off."""

    def __init__(self, inner: MemoryBroker, wire: Wire, trace: Trace) -> None:
        self._inner = inner
        self._wire = wire
        self._trace = trace
        self.skew_ms = 0
        self.takes: Callable[[Iterable[Entry]], None] = lambda _entries: None
        """Hears of entries that are to be reserved."""
        self.claimed_at_ms: dict[str, int] = {}
        """By session id: when the store gave it out to be stopped, last."""
        self.doubted: Callable[[str], None] = lambda _request_id: None
        """Hears of a request that was reserved and may be one asked for again after a loss."""

    def now_ms(self) -> int:
        return self._inner.now_ms() + self.skew_ms

    def loss_ms(self) -> int:
        return self._inner.loss_ms()

    async def prepare(self) -> None:
        await self._step("prepare", self._inner.prepare)

    async def look_back(self) -> int:
        return await self._step("look_back", self._inner.look_back)

    async def take(self, count: int, order: Sequence[Priority]) -> list[Entry]:
        return await self._step("take", lambda: self._inner.take(count, order))

    async def wait(self, count: int) -> list[Entry]:
        return await self._step("wait", lambda: self._inner.wait(count))

    async def strays(self, count: int, idle_ms: int) -> list[Entry]:
        return await self._step("strays", lambda: self._inner.strays(count, idle_ms))

    async def reserve(self, asks: Sequence[Reservation]) -> list[ReserveReply]:
        self.takes(ask.entry for ask in asks)
        replies = await self._step("reserve", lambda: self._inner.reserve(asks))
        for ask, reply in zip(asks, replies, strict=True):
            self._trace.say(f"reserve {ask.request_id} {ask.entry.entry_id}: {type(reply).__name__}")
            if isinstance(reply, Hold) and reply.doubtful:
                self.doubted(ask.request_id)
        return replies

    async def reclaim(self, count: int) -> list[Hold]:
        holds = await self._step("reclaim", lambda: self._inner.reclaim(count))
        for hold in holds:
            self._trace.say(f"reclaim {hold.request_id} generation {hold.generation} uncertain {hold.uncertain}")
        return holds

    async def begin(self, hold: Hold) -> bool:
        return await self._step("begin", lambda: self._inner.begin(hold))

    async def renew(self, holds: Sequence[Hold]) -> list[bool]:
        return await self._step("renew", lambda: self._inner.renew(holds))

    async def note(self, hold: Hold, attempts: tuple[Attempt, ...], code: Code, message: str) -> bool:
        return await self._step("note", lambda: self._inner.note(hold, attempts, code, message))

    async def next_generation(self, hold: Hold, condemned: Sequence[Condemned]) -> int | None:
        what = f"next_generation {hold.request_id} after {hold.generation} condemns {len(condemned)}"
        reply = await self._step(what, lambda: self._inner.next_generation(hold, condemned))
        self._trace.say(f"{what}: {reply}")
        return reply

    async def commit(self, ending: Ending) -> CommitReply:
        session = ending.session[1][:8] if ending.session else None
        what = f"commit {ending.hold.request_id} {ending.fields['state']} {ending.fields.get('error_code')} {session}"
        reply = await self._step(what, lambda: self._inner.commit(ending))
        self._trace.say(f"{what}: {type(reply).__name__}")
        return reply

    async def refuse(self, refusal: Refusal) -> bool:
        return await self._step(f"refuse {refusal.request_id}", lambda: self._inner.refuse(refusal))

    async def hand_back(self, holds: Sequence[tuple[Hold, bool]]) -> None:
        what = "hand_back " + ", ".join(f"{hold.request_id} clean {clean}" for hold, clean in holds)
        await self._step(what, lambda: self._inner.hand_back(holds))
        self._trace.say(what)

    async def claim_condemned(self, count: int, hold_ms: int) -> list[Condemned]:
        async def claim() -> list[Condemned]:
            given = await self._inner.claim_condemned(count, hold_ms)
            self.claimed_at_ms.update({each.session_id: self._inner.now_ms() for each in given})
            return given

        return await self._step("claim_condemned", claim)

    async def recheck(self, condemned: Condemned, after_ms: int | None) -> None:
        await self._step("recheck", lambda: self._inner.recheck(condemned, after_ms))

    async def survey(self) -> Survey:
        return await self._step("survey", self._inner.survey)

    async def close(self) -> None:
        """Nothing is kept of a worker's name."""

    async def _step(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._wire.ask(what, act)
        except Broken as broken:
            raise BrokerUnavailable(f"{broken}: no reply") from broken


class AftermathView:
    """The aftermath over the same wire as the broker."""

    def __init__(self, inner: MemoryAftermath, wire: Wire, trace: Trace) -> None:
        self._inner = inner
        self._wire = wire
        self._trace = trace

    async def orders(self, count: int) -> list[Order]:
        return await self._step("orders", lambda: self._inner.orders(count))

    async def stray_orders(self, count: int, idle_ms: int) -> list[Order]:
        return await self._step("stray_orders", lambda: self._inner.stray_orders(count, idle_ms))

    async def settle(self, order: Order) -> None:
        await self._step(f"settle order {order.request_id}", lambda: self._inner.settle(order))

    async def bury(self, order: Order, code: Code, message: str) -> bool:
        return await self._step("bury order", lambda: self._inner.bury(order, code, message))

    async def seize(self, request_id: str) -> Hold | Over | None:
        standing = await self._step(f"seize {request_id}", lambda: self._inner.seize(request_id))
        self._trace.say(f"seize {request_id}: {type(standing).__name__} {getattr(standing, 'state', '')}")
        return standing

    async def forestall(self, order: Order, fields: Mapping[str, str], event: str) -> bool:
        return await self._step(f"forestall {order.request_id}", lambda: self._inner.forestall(order, fields, event))

    async def condemn(self, condemned: Condemned, request_id: str, *, release: bool) -> bool:
        return await self._step(
            f"condemn {request_id} {condemned.session_id[:8]}",
            lambda: self._inner.condemn(condemned, request_id, release=release),
        )

    async def release(self, request_id: str, session: tuple[str, str], event: str) -> bool:
        return await self._step(f"release {request_id}", lambda: self._inner.release(request_id, session, event))

    async def allocation(self, request_id: str) -> Mapping[str, str]:
        return await self._step("allocation", lambda: self._inner.allocation(request_id))

    async def seized(self) -> list[str]:
        return await self._step("seized", self._inner.seized)

    async def _step(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._wire.ask(what, act)
        except Broken as broken:
            raise BrokerUnavailable(f"{broken}: no reply") from broken


class CensusView:
    """The census over the same wire as the broker; in an eager world a turn is soon over, so that passes overlap."""

    def __init__(self, inner: MemoryCensus, wire: Wire, trace: Trace, *, turn_ms_max: int | None) -> None:
        self._inner = inner
        self._wire = wire
        self._trace = trace
        self._turn_ms_max = turn_ms_max

    async def turn(self, hold_ms: int) -> bool:
        hold_ms = min(hold_ms, self._turn_ms_max or hold_ms)
        return await self._step("turn", lambda: self._inner.turn(hold_ms))

    async def lead(self, hold_ms: int) -> bool:
        return await self._step("lead", lambda: self._inner.lead(hold_ms))

    async def snapshot(self) -> Snapshot:
        return await self._step("snapshot", self._inner.snapshot)

    async def standings(self, sightings: Sequence[Sighting]) -> list[Standing]:
        found = await self._step("standings", lambda: self._inner.standings(sightings))
        for sighting, standing in zip(sightings, found, strict=True):
            self._trace.say(f"{sighting.session_id[:8]} of {sighting.request_id} stands {standing.value}")
        return found

    async def hasten(self, provider: str, session_ids: Sequence[str], per_minute_max: int) -> int:
        return await self._step("hasten", lambda: self._inner.hasten(provider, session_ids, per_minute_max))

    async def keep(self, provider: str, tally: Tally, orphans: Sequence[Orphan]) -> None:
        await self._step("keep", lambda: self._inner.keep(provider, tally, orphans))
        self._trace.say("orphans: " + ", ".join(f"{each.session_id[:8]} {each.kind.value}" for each in orphans))

    async def tally(self, provider: str) -> Tally | None:
        return await self._step("tally", lambda: self._inner.tally(provider))

    async def _step(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._wire.ask(what, act)
        except Broken as broken:
            raise BrokerUnavailable(f"{broken}: no reply") from broken


class ParkingView:
    """The car park over the same wire as the broker."""

    def __init__(self, inner: MemoryParking, wire: Wire, trace: Trace, *, parked: Callable[[str], None]) -> None:
        self._inner = inner
        self._parked = parked
        self._wire = wire
        self._trace = trace

    async def park(self, stay: Stay) -> bool:
        parked = await self._step(f"park {stay.hold.request_id}", lambda: self._inner.park(stay))
        if parked:
            self._parked(stay.hold.request_id)
        self._trace.say(f"parked {stay.hold.request_id} for {' '.join(stay.lots)}: {parked}")
        return parked

    async def claim(self, wants: Sequence[Want], count: int) -> Arrivals:
        arrivals = await self._step("claim", lambda: self._inner.claim(wants, count))
        for hold, lot in arrivals.holds:
            self._trace.say(f"called {hold.request_id} in from {lot}")
        return arrivals

    async def stranded(self, served: Sequence[str]) -> list[str]:
        return await self._step("stranded", lambda: self._inner.stranded(served))

    async def close(self) -> None:
        await self._inner.close()

    async def _step(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._wire.ask(what, act)
        except Broken as broken:
            raise BrokerUnavailable(f"{broken}: no reply", "connection") from broken


class GateView:
    """The gate over the same wire as the broker."""

    def __init__(self, inner: MemoryGate, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    async def permits(self, ask: Ask) -> Grant:
        return await self._step("permits", lambda: self._inner.permits(ask))

    async def shut(self, limit: Limit, cause: Cause, retry_after_seconds: float | None) -> float:
        return await self._step(f"shut {limit.scope}", lambda: self._inner.shut(limit, cause, retry_after_seconds))

    async def open(self, limits: Sequence[Limit]) -> None:
        await self._step("open", lambda: self._inner.open(limits))

    async def doubt(self, limit: Limit, *, probe: bool = False) -> float:
        return await self._step("doubt", lambda: self._inner.doubt(limit, probe=probe))

    async def slow(self, limit: Limit, begun_seconds_ago: float) -> float:
        return await self._step("slow", lambda: self._inner.slow(limit, begun_seconds_ago))

    async def verdict(self, limit: Limit) -> Verdict:
        return await self._step("verdict", lambda: self._inner.verdict(limit))

    async def judge(self, limit: Limit, verdict: Verdict) -> None:
        await self._step("judge", lambda: self._inner.judge(limit, verdict))

    async def may_repeat(self, account: Limit, first_attempts: int) -> bool:
        return await self._step("may_repeat", lambda: self._inner.may_repeat(account, first_attempts))

    async def states(self, limits: Sequence[Limit]) -> list[LimitState]:
        return await self._step("states", lambda: self._inner.states(limits))

    async def _step(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._wire.ask(what, act)
        except Broken as broken:
            raise GateUnavailable(f"{broken}: no reply") from broken
