"""A worker's view of the host: the twin behind a wire.

In: the port's values. Out: the port's replies, or what the port says of a host that cannot be asked. What goes wrong is
the wire's and the host's to draw, what may be called `Calls`' to judge; nothing here decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from allocator.providers.memory import MemoryProvider
from allocator.providers.provider import (
    FindOutcome,
    Found,
    LookupFailed,
    Offered,
    Session,
    StartOutcome,
    StartSpec,
    StopFailed,
    StopOutcome,
    Unknown,
)
from tests.simulation.trace import Trace
from tests.simulation.wire import Broken, Wire


class Calls(Protocol):
    """Who hears of one process's calls."""

    def starts(self, request_id: str, session_id: str, location: str) -> None:
        """A start is sent."""
        ...

    def started(self, request_id: str, session_id: str, location: str, outcome: StartOutcome) -> None:
        """It was answered, or not."""
        ...

    def found(self, session_id: str, outcome: FindOutcome) -> None:
        """A look-up was answered, or not."""
        ...

    def stops(self, session_id: str) -> None:
        """A stop is sent."""
        ...


class HostView:
    """The host over a wire; what a cut wire means is what each call says of an answer that does not come.

    `calls` hears of each call as it is sent and as it is answered. The twin counts its time from the world's beginning,
    a host's list tells it in Unix milliseconds.
    """

    def __init__(self, inner: MemoryProvider, wire: Wire, trace: Trace, calls: Calls, *, epoch_ms: int) -> None:
        self._inner = inner
        self._wire = wire
        self._trace = trace
        self._calls = calls
        self._epoch_ms = epoch_ms

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def account(self) -> str:
        return self._inner.account

    def unsuited(self, location: str, spec: StartSpec) -> str | None:
        return self._inner.unsuited(location, spec)

    async def start(self, session_id: str, location: str, spec: StartSpec, *, timeout_seconds: float) -> StartOutcome:
        match = spec.labels.get("match")
        self._trace.say(f"start {match} {session_id[:8]} at {location}")
        if timeout_seconds <= 0:
            self._trace.violated(f"a call for {match} is begun {-timeout_seconds:.3f} s after its deadline")
        self._calls.starts(match or "", session_id, location)
        try:
            outcome = await self._wire.ask(
                f"start {match}",
                lambda: self._inner.start(session_id, location, spec, timeout_seconds=timeout_seconds),
            )
        except Broken as broken:
            outcome = Unknown(None, f"{broken}: no reply")
        self._trace.say(f"start {match} {session_id[:8]} at {location}: {_said(outcome)}")
        self._calls.started(match or "", session_id, location, outcome)
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
        self._calls.found(session_id, outcome)
        return Found(self._dated(outcome.session)) if isinstance(outcome, Found) else outcome

    async def stop(self, session_id: str, *, timeout_seconds: float) -> StopOutcome:
        outcome: StopOutcome
        self._calls.stops(session_id)
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
            found = await self._wire.ask("list", lambda: self._inner.list(mark, timeout_seconds=timeout_seconds))
        except Broken as broken:
            return LookupFailed(f"{broken}: no reply")
        self._trace.say(f"list {mark}: {len(found) if isinstance(found, tuple) else _said(found)}")
        return tuple(self._dated(each) for each in found) if isinstance(found, tuple) else found

    async def offers(self, image: str, *, timeout_seconds: float) -> Offered | LookupFailed:
        try:
            return await self._wire.ask("offers", lambda: self._inner.offers(image, timeout_seconds=timeout_seconds))
        except Broken as broken:
            return LookupFailed(f"{broken}: no reply")

    async def close(self) -> None:
        """Nothing to give back."""

    def _dated(self, session: Session) -> Session:
        since_ms = session.created_at_ms
        return session if since_ms is None else replace(session, created_at_ms=self._epoch_ms + since_ms)


def _said(outcome: object) -> str:
    status = getattr(outcome, "status", None)
    session = getattr(outcome, "session", None)
    return f"{type(outcome).__name__} {status or ''}{' ' + session.state.value if session else ''}".rstrip()
