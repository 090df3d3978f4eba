"""Each event moves the metrics it is about, and no others.

In: the engine's events, what the settings name, how many requests are held. Out: the families of one registry. It
promises that every label comes from a bounded set (regions and destinations are those of the settings, all others
`other`), that what can be known beforehand stands at 0 from the start, and that one allocation's events cost a few
microseconds. What is in the text, and who may read it, is left to `exposition` and the admin address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NoReturn

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import (
    Attempted,
    BrokerBack,
    BrokerTrouble,
    Crashed,
    Event,
    FellBack,
    Finished,
    GateOpened,
    GateShut,
    LeaseLost,
    LeftAlone,
    NotReady,
    Parked,
    RateSeen,
    Received,
    Reconciled,
    Refused,
    SessionStopped,
    Slowed,
    Surveyed,
    TakenOver,
)
from allocator.telemetry.cells import Count, Spread
from allocator.telemetry.families import Families

OTHER = "other"
ACCOUNT = "*"
"""The location that stands for a whole account."""

LAG_SAMPLE_SECONDS = 0.1

_ENDS = {
    State.ALLOCATED: (None,),
    State.FAILED: (
        Code.INVALID_REQUEST,
        Code.REJECTED,
        Code.NOT_FOUND,
        Code.NO_REGION,
        Code.ID_CONFLICT,
        Code.POISONED,
    ),
    State.EXPIRED: (Code.NO_CAPACITY, Code.UNAVAILABLE, Code.UNAUTHORIZED, Code.DEADLINE),
    State.CANCELLED: (None,),
}
"""The ends that this engine comes to; another is told from its first time on."""

_REFUSALS = (Code.INVALID_REQUEST, Code.ID_CONFLICT, Code.OVERLOADED)
_BURIALS = (Code.INVALID_REQUEST, Code.POISONED)
_FAULTS = ("connection", "timeout", "pool", "loading", "readonly", "out_of_memory")
_STOPS = {
    "start answered": "unknown_answer",
    "taken over": "taken_over",
    "ended": "ended",
    "condemned": "condemned",
    "release ": "release",
    "not ready": "not_ready",
    "orphan": "orphan",
}
"""How a reason for stopping begins, and the word for it."""

_SHUT_OR_BUSY = "shut_or_busy"
_FALLBACK_REASONS = frozenset({_SHUT_OR_BUSY, *Outcome})


class _Calls:
    """The cells of the calls to one destination."""

    __slots__ = ("_families", "_labels", "outcomes", "statuses")

    def __init__(self, families: Families, labels: tuple[str, str]) -> None:
        self._families = families
        self._labels = labels
        self.outcomes: dict[Outcome, Count] = {
            outcome: families.attempts.at(*labels, outcome.value) for outcome in Outcome
        }
        self.statuses: dict[int | None, Spread] = {}

    def observe(self, outcome: Outcome, status: int | None, seconds: float) -> None:
        """Count one call."""
        self.outcomes[outcome].value += 1
        spread = self.statuses.get(status)
        if spread is None:
            text = "none" if status is None else str(status) if 100 <= status <= 599 else OTHER
            spread = self.statuses[status] = self._families.provider_seconds.at(*self._labels, text)
        spread.observe(seconds)


class Metrics:
    """The observer that counts; one for each process, on a registry of its own."""

    def __init__(
        self, registry: CollectorRegistry, version: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._families = families = Families(registry)
        self._clock = clock
        self._calls: dict[Destination, _Calls] = {}
        self._waits: dict[str, Spread] = {}
        self._unknown_wait: Spread | None = None
        self._shut_until: dict[Destination, float] = {}
        self._rates: dict[Destination, float] = {}
        self._received = {priority: families.received.at(priority.value) for priority in Priority}
        self._finished = {
            (state, code): families.finished.at(state.value, code.value if code else "")
            for state, codes in _ENDS.items()
            for code in codes
        }
        self._requests = {state: families.request_seconds.at(state.value) for state in _ENDS}
        self._queue, self._gate, self._provider, self._commit = (
            families.stage_seconds.at(stage) for stage in ("queue", "gate", "provider", "commit")
        )
        self._added = families.added_seconds.at()
        self._first_choice = {True: families.first_choice.at("true"), False: families.first_choice.at("false")}
        self._redeliveries, self._lease_lost = families.redeliveries.at(), families.lease_lost.at()
        self._lag = families.loop_lag.at()
        self._begin_at_nought()
        families.build.info({"version": version})
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def expect(self, destinations: Iterable[Destination], regions: Iterable[str]) -> None:
        """Give these destinations and regions labels of their own, at 0 from now on; all others share `other`."""
        for destination in destinations:
            if destination not in self._calls:
                self._calls[destination] = _Calls(self._families, (destination.provider, destination.location))
                self._follow_gate(destination)
                self._follow_gate(Destination(destination.provider, ACCOUNT))
        for region in regions:
            self._waits[region] = self._families.gate_wait_seconds.at(region)

    def set_rates(self, rates: Mapping[Destination, float]) -> None:
        """Tell these rates until others are seen, in starts a second; a location `*` is the account's."""
        for destination, rate in rates.items():
            self._rates[destination] = rate
            now = partial(self._rates.__getitem__, destination)
            self._families.gate_rate.follow(now, destination.provider, destination.location)

    def follow_progress(self, state: State, count: Callable[[], int]) -> None:
        """Ask `count` at each scrape how many requests are in this state here."""
        self._families.in_progress.follow(count, state.value)

    async def watch_loop_lag(self, sample_seconds: float = LAG_SAMPLE_SECONDS) -> NoReturn:
        """Sleep and see how much later than asked the loop wakes this up, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + sample_seconds
            await asyncio.sleep(sample_seconds)
            self._lag.observe(max(0.0, loop.time() - due))

    def observe(self, event: Event) -> None:
        """Move what this event is about. The three of every allocation come first."""
        match event:
            case Attempted():
                calls = self._calls.get(event.destination) or self._unknown_calls(event.destination)
                calls.observe(event.outcome, event.status, event.provider_seconds)
                (self._waits.get(event.region) or self._unknown_region()).observe(event.waited_seconds)
            case Received():
                self._received[event.priority].value += 1
                self._queue.observe(event.queued_seconds)
            case Finished():
                self._end(event)
            case Surveyed():
                self._survey(event)
            case FellBack():
                reason = event.reason if event.reason in _FALLBACK_REASONS else OTHER
                labels = (self._region(event.from_region), self._region(event.to_region), reason)
                self._families.fallbacks.at(*labels).value += 1
            case _:
                self._rare(event)

    def _rare(
        self,
        event: TakenOver | Refused | LeaseLost | GateShut | GateOpened | Slowed | RateSeen | Parked | NotReady
        | SessionStopped | LeftAlone | Reconciled | BrokerTrouble | BrokerBack | Crashed,
    ) -> None:  # fmt: skip
        match event:
            case Refused():
                self._families.refused.at(event.code.value).value += 1
                if event.buried:
                    self._families.dead_letters.at(event.code.value).value += 1
            case TakenOver():
                self._redeliveries.value += 1
            case LeaseLost():
                self._lease_lost.value += 1
            case GateShut() | GateOpened() | Slowed() | RateSeen():
                self._gates(event)
            case SessionStopped():
                words = (word for start, word in _STOPS.items() if event.reason.startswith(start))
                self._families.stopped.at(next(words, OTHER)).value += 1
            case BrokerTrouble():
                self._families.redis_errors.at(event.kind).value += 1
            case Reconciled(orphans):
                # No sample before the first: 0 would be said of what nobody has looked at.
                for kind, count in orphans.items():
                    self._families.orphans.labels(kind).set(count)
            case Parked() | NotReady() | LeftAlone() | BrokerBack() | Crashed():
                pass

    def _gates(self, event: GateShut | GateOpened | Slowed | RateSeen) -> None:
        match event:
            case GateShut():
                self._shut_until[self._place(event.destination)] = self._clock() + event.seconds
            case GateOpened():
                # A probe opens every limit it came through: that of its destination and that of the account.
                self._shut_until.pop(self._place(event.destination), None)
                self._shut_until.pop(Destination(event.destination.provider, ACCOUNT), None)
            case Slowed(destination, rate) | RateSeen(destination, rate):
                if destination in self._rates:
                    self._rates[destination] = rate

    def _end(self, event: Finished) -> None:
        finished = self._finished.get((event.state, event.code))
        if finished is None:
            finished = self._families.finished.at(event.state.value, event.code.value if event.code else "")
            self._finished[event.state, event.code] = finished
            self._requests[event.state] = self._families.request_seconds.at(event.state.value)
        finished.value += 1
        self._requests[event.state].observe(event.total_seconds)
        self._gate.observe(event.gate_seconds)
        self._provider.observe(event.provider_seconds)
        self._commit.observe(event.commit_seconds)
        # The total is counted on Redis's clock in whole milliseconds, the rest on ours: the difference may fall short.
        self._added.observe(max(0.0, event.total_seconds - event.provider_seconds - event.gate_seconds))
        if event.code is Code.POISONED:
            self._families.dead_letters.at(event.code.value).value += 1
        if event.first_choice is not None:
            self._first_choice[event.first_choice].value += 1

    def _survey(self, event: Surveyed) -> None:
        families, depths = self._families, event.survey.depths
        for priority, depth in depths.items():
            families.queue_depth.labels(priority.value).set(depth.untaken)
        families.queue_pending.set(sum(depth.pending for depth in depths.values()))
        families.oldest_untaken.set(max((depth.oldest_seconds for depth in depths.values()), default=0.0))
        families.condemned.set(event.survey.condemned)
        families.parked.set(event.survey.parked)

    def _begin_at_nought(self) -> None:
        families = self._families
        for code in _REFUSALS:
            families.refused.at(code.value)
        for code in _BURIALS:
            families.dead_letters.at(code.value)
        for kind in _FAULTS:
            families.redis_errors.at(kind)
        for word in _STOPS.values():
            families.stopped.at(word)
        for priority in Priority:
            families.queue_depth.labels(priority.value)
        families.in_progress.follow(int, State.ALLOCATING.value)

    def _follow_gate(self, destination: Destination) -> None:
        def closed() -> int:
            return int(self._shut_until.get(destination, 0.0) > self._clock())

        self._families.gate_closed.follow(closed, destination.provider, destination.location)

    def _region(self, name: str) -> str:
        return name if name in self._waits else OTHER

    def _place(self, destination: Destination) -> Destination:
        """The destination by which a gate is told: as it is where it is expected, else the provider's `other`."""
        if destination in self._calls:
            return destination
        if destination.location == ACCOUNT:
            self._follow_gate(destination)
            return destination
        self._unknown_calls(destination)
        return Destination(destination.provider, OTHER)

    def _unknown_calls(self, destination: Destination) -> _Calls:
        """The cells that all destinations of a provider share which the settings do not name."""
        other = Destination(destination.provider, OTHER)
        if other not in self._calls:
            self.expect((other,), ())
        return self._calls[other]

    def _unknown_region(self) -> Spread:
        if self._unknown_wait is None:
            self._unknown_wait = self._families.gate_wait_seconds.at(OTHER)
        return self._unknown_wait
