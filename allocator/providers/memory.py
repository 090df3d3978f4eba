"""A game-server host inside the process: the twin of the real ones, for simulations and tests.

In: the calls of the port, and a script that says which of them go wrong and how. Out: the outcomes of the port, and a
ledger of every call and every session for checkers to read. Promised: all time is the running loop's, so that it
works under virtual time; what a call does to the host happens when it arrives there, whether or not its caller still
waits. It behaves as Gameye does: an id is used once for ever, a stop of an ended session finds nothing to stop.

Left to others: HTTP (the simulator), and any rule about what to do with an outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from allocator.providers.memory_host import LedgerEntry, MemoryHost, MemoryLocation
from allocator.providers.provider import (
    Absent,
    Conflict,
    CredentialRefused,
    FindOutcome,
    Found,
    Gone,
    LookupFailed,
    NoRoom,
    NotFound,
    Offered,
    Rejected,
    Session,
    SessionState,
    StartOutcome,
    StartSpec,
    StopFailed,
    StopOutcome,
    Stopped,
    Unknown,
    Unreachable,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StartCall:
    """One start as it was sent, in the loop's seconds; `number` counts all starts from 0."""

    number: int
    session_id: str
    location: str
    at_seconds: float


@dataclass(frozen=True, slots=True)
class LostReply:
    """Script: the start takes effect and its reply never comes."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Script: the start gets lost on its way there; nothing happens and no reply comes."""


@dataclass(frozen=True, slots=True)
class LateCreate:
    """Script: the start is answered with this, and its session appears this much later all the same."""

    after_seconds: float
    answer: StartOutcome = field(default_factory=lambda: Unknown(504, "gateway time-out"))


@dataclass(frozen=True, slots=True)
class OtherId:
    """Script: the start is served under an id of the host's own, as a warm pool may."""

    session_id: str


Definite = NoRoom | Rejected | NotFound | CredentialRefused | Unreachable | Conflict
Step = Definite | Unknown | LostReply | NoAnswer | LateCreate | OtherId
"""What a script may say of a start; an outcome is answered as it is, and nothing is created."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Script: a call other than a start fails with this message; a stop may have taken effect before."""

    message: str
    took_effect: bool = False


Asked = Literal["find", "stop", "list", "offers"]
"""The calls other than a start."""


@dataclass(frozen=True, slots=True)
class StopCall:
    """One stop that arrived; `ended` where it ended a session that was not at its end."""

    session_id: str
    at_seconds: float
    ended: bool


class MemoryProvider:
    """A provider whose host is a dictionary."""

    def __init__(
        self,
        locations: Mapping[str, MemoryLocation],
        *,
        name: str = "memory",
        account: str = "memory",
        latency_seconds: Callable[[], float] = lambda: 0.0,
        script: Callable[[StartCall], Step | None] = lambda _call: None,
        failures: Callable[[Asked, str], Failure | None] = lambda _call, _subject: None,
        unsuited: Callable[[str, StartSpec], str | None] = lambda _location, _spec: None,
    ) -> None:
        """Serve these locations; `latency_seconds` is asked for each call, `script` and `failures` as it is sent."""
        self._host = MemoryHost(locations)
        self.starts: list[StartCall] = []
        self.stops: list[StopCall] = []
        self._name = name
        self._account = account
        self._latency_seconds = latency_seconds
        self._script = script
        self._failures = failures
        self._unsuited = unsuited

    @property
    def name(self) -> str:
        """As destinations call it."""
        return self._name

    @property
    def account(self) -> str:
        """Whose rates these are."""
        return self._account

    @property
    def locations(self) -> dict[str, MemoryLocation]:
        """What each location can take; the caller may change it while calls are under way."""
        return self._host.locations

    @property
    def ledger(self) -> Mapping[str, LedgerEntry]:
        """Every session that was ever created, by its id, as of now."""
        return self._host.ledger(_now())

    def alive(self) -> tuple[Session, ...]:
        """The sessions that have not ended, in the order of their creation."""
        return tuple(e.session for e in self.ledger.values() if e.session.state is not SessionState.ENDED)

    def put(self, session: Session) -> None:
        """Let a session be there that no call here has started, such as another deployment's."""
        self._host.enter(session, StartSpec(image=session.image), _now())

    def set_state(self, session_id: str, state: SessionState) -> None:
        """Let a session exit by itself, or become unclear."""
        if state is SessionState.ENDED:
            self._host.end(session_id, "exit", _now())
        else:
            self._host.set_unended_state(session_id, state)

    def unsuited(self, location: str, spec: StartSpec) -> str | None:
        """Whatever the script says."""
        return self._unsuited(location, spec)

    async def start(self, session_id: str, location: str, spec: StartSpec, *, timeout_seconds: float) -> StartOutcome:
        """Start one session, or do what the script says of this call."""
        call = StartCall(len(self.starts), session_id, location, _now())
        self.starts.append(call)
        step = self._script(call)
        if isinstance(step, Unreachable):
            return step
        lost: StartOutcome = Unknown(None, f"no reply within {timeout_seconds:g} s")
        return await self._round_trip(lambda: self._arrive(call, spec, step), timeout_seconds, lost)

    async def find(self, session_id: str, *, timeout_seconds: float) -> FindOutcome:
        """Describe one session."""
        failure = self._failures("find", session_id)

        def arrive() -> FindOutcome:
            if failure is not None:
                return LookupFailed(failure.message)
            entry = self.ledger.get(session_id)
            return Absent() if entry is None else Found(entry.session)

        lost: FindOutcome = LookupFailed(f"no reply within {timeout_seconds:g} s")
        return await self._round_trip(arrive, timeout_seconds, lost)

    async def stop(self, session_id: str, *, timeout_seconds: float) -> StopOutcome:
        """End one session; harmless where it has ended."""
        failure = self._failures("stop", session_id)

        def arrive() -> StopOutcome:
            if failure is not None and not failure.took_effect:
                return StopFailed(failure.message)
            has_ended_it = session_id in self.ledger and self._host.end(session_id, "stop", _now())
            self.stops.append(StopCall(session_id, _now(), has_ended_it))
            if failure is not None:
                return StopFailed(failure.message)
            return Stopped() if has_ended_it else Gone()

        lost: StopOutcome = StopFailed(f"no reply within {timeout_seconds:g} s")
        return await self._round_trip(arrive, timeout_seconds, lost)

    async def list(self, mark: str, *, timeout_seconds: float) -> tuple[Session, ...] | LookupFailed:
        """Every session that runs and bears the mark."""
        failure = self._failures("list", mark)

        def arrive() -> tuple[Session, ...] | LookupFailed:
            if failure is not None:
                return LookupFailed(failure.message)
            ours = (entry.session for entry in self.ledger.values() if entry.session.mark == mark)
            return tuple(session for session in ours if session.state is SessionState.ALIVE)

        lost: tuple[Session, ...] | LookupFailed = LookupFailed(f"no reply within {timeout_seconds:g} s")
        return await self._round_trip(arrive, timeout_seconds, lost)

    async def offers(self, image: str, *, timeout_seconds: float) -> Offered | LookupFailed:
        """The locations that are not full; any image can start here."""
        failure = self._failures("offers", image)

        def arrive() -> Offered | LookupFailed:
            return Offered(self._host.with_room(_now())) if failure is None else LookupFailed(failure.message)

        lost: Offered | LookupFailed = LookupFailed(f"no reply within {timeout_seconds:g} s")
        return await self._round_trip(arrive, timeout_seconds, lost)

    async def close(self) -> None:
        """Nothing to give back."""

    async def _round_trip(self, arrive: Callable[[], T | None], timeout_seconds: float, lost: T) -> T:
        """Let the call arrive after half the latency, its answer (None: there is none) after the other half."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T] = loop.create_future()
        half_seconds = self._latency_seconds() / 2

        def settle(answer: T) -> None:
            if not answered.done():
                answered.set_result(answer)

        def land() -> None:
            answer = arrive()
            if answer is not None:
                loop.call_later(half_seconds, settle, answer)

        loop.call_later(half_seconds, land)
        deadline = loop.call_later(timeout_seconds, settle, lost)
        try:
            return await answered
        finally:
            deadline.cancel()

    def _arrive(self, call: StartCall, spec: StartSpec, step: Step | None) -> StartOutcome | None:
        match step:
            case None:
                return self._create(call.session_id, call.location, spec)
            case OtherId(session_id):
                return self._create(session_id, call.location, spec)
            case LostReply():
                self._create(call.session_id, call.location, spec)
                return None
            case NoAnswer():
                return None
            case LateCreate(after_seconds, answer):
                loop = asyncio.get_running_loop()
                loop.call_later(after_seconds, self._create, call.session_id, call.location, spec)
                return answer
            case _:
                return step

    def _create(self, session_id: str, location: str, spec: StartSpec) -> StartOutcome:
        return self._host.create(session_id, location, spec, _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
