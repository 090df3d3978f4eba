"""A worker's view of the broker, the gate and the host: the twins behind a wire.

In: the ports' values. Out: the ports' replies, or what each port says of a server that cannot be asked. What goes
wrong is the wires' and the host's to draw; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.contract.allocation import Attempt
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from allocator.gate.gate import Ask, Cause, GateUnavailable, Grant, Limit
from allocator.gate.memory import MemoryGate
from allocator.providers.memory import MemoryProvider
from allocator.providers.provider import (
    FindOutcome,
    LookupFailed,
    Session,
    StartOutcome,
    StartSpec,
    StopFailed,
    StopOutcome,
    Unknown,
)
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

    def now_ms(self) -> int:
        return self._inner.now_ms() + self.skew_ms

    async def prepare(self) -> None:
        await self._step("prepare", self._inner.prepare)

    async def look_back(self) -> None:
        await self._step("look_back", self._inner.look_back)

    async def take(self, count: int, order: Sequence[Priority]) -> list[Entry]:
        return await self._step("take", lambda: self._inner.take(count, order))

    async def wait(self, count: int) -> list[Entry]:
        return await self._step("wait", lambda: self._inner.wait(count))

    async def strays(self, count: int, idle_ms: int) -> list[Entry]:
        return await self._step("strays", lambda: self._inner.strays(count, idle_ms))

    async def reserve(self, asks: Sequence[Reservation]) -> list[ReserveReply]:
        replies = await self._step("reserve", lambda: self._inner.reserve(asks))
        for ask, reply in zip(asks, replies, strict=True):
            self._trace.say(f"reserve {ask.request_id} {ask.entry.entry_id}: {type(reply).__name__}")
        return replies

    async def reclaim(self, count: int) -> list[Hold]:
        holds = await self._step("reclaim", lambda: self._inner.reclaim(count))
        for hold in holds:
            self._trace.say(f"reclaim {hold.request_id} generation {hold.generation} uncertain {hold.uncertain}")
        return holds

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
        return await self._step("claim_condemned", lambda: self._inner.claim_condemned(count, hold_ms))

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

    async def _step(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._wire.ask(what, act)
        except Broken as broken:
            raise GateUnavailable(f"{broken}: no reply") from broken


class HostView:
    """The host over a wire; what a cut wire means is what each call says of an answer that does not come."""

    def __init__(self, inner: MemoryProvider, wire: Wire, trace: Trace) -> None:
        self._inner = inner
        self._wire = wire
        self._trace = trace

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def account(self) -> str:
        return self._inner.account

    async def start(self, session_id: str, location: str, spec: StartSpec, *, timeout_seconds: float) -> StartOutcome:
        match = spec.labels.get("match")
        self._trace.say(f"start {match} {session_id[:8]} at {location}")
        if timeout_seconds <= 0:
            self._trace.violated(f"a call for {match} is begun {-timeout_seconds:.3f} s after its deadline")
        try:
            outcome = await self._wire.ask(
                f"start {match}",
                lambda: self._inner.start(session_id, location, spec, timeout_seconds=timeout_seconds),
            )
        except Broken as broken:
            outcome = Unknown(None, f"{broken}: no reply")
        self._trace.say(f"start {match} {session_id[:8]} at {location}: {_said(outcome)}")
        return outcome

    async def find(self, session_id: str, *, timeout_seconds: float) -> FindOutcome:
        outcome: FindOutcome
        try:
            outcome = await self._wire.ask(
                "find", lambda: self._inner.find(session_id, timeout_seconds=timeout_seconds)
            )
        except Broken as broken:
            outcome = LookupFailed(f"{broken}: no reply")
        self._trace.say(f"find {session_id[:8]}: {_said(outcome)}")
        return outcome

    async def stop(self, session_id: str, *, timeout_seconds: float) -> StopOutcome:
        outcome: StopOutcome
        try:
            outcome = await self._wire.ask(
                "stop", lambda: self._inner.stop(session_id, timeout_seconds=timeout_seconds)
            )
        except Broken as broken:
            outcome = StopFailed(f"{broken}: no reply")
        self._trace.say(f"stop {session_id[:8]}: {_said(outcome)}")
        return outcome

    async def list(self, mark: str, *, timeout_seconds: float) -> tuple[Session, ...] | LookupFailed:
        try:
            return await self._wire.ask("list", lambda: self._inner.list(mark, timeout_seconds=timeout_seconds))
        except Broken as broken:
            return LookupFailed(f"{broken}: no reply")

    async def close(self) -> None:
        """Nothing to give back."""


def _said(outcome: object) -> str:
    status = getattr(outcome, "status", None)
    session = getattr(outcome, "session", None)
    return f"{type(outcome).__name__} {status or ''}{' ' + session.state.value if session else ''}".rstrip()
