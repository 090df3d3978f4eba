"""Each event moves the metrics it is about, and no others.

In: the engine's events, what the settings name, how many requests are held. Out: the families of one registry. It
promises that every label comes from a bounded set (regions and destinations are those of the settings, all others
`other`), that what can be known beforehand stands at 0 from the start, and that one allocation's events cost a few
microseconds. What is in the text, and who may read it, is left to `exposition` and the admin address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
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
    Left,
    LeftAlone,
    Leg,
    LookedUp,
    NotReady,
    Parked,
    Received,
    Reconciled,
    Refused,
    SessionStopped,
    Slowed,
    Surveyed,
    TakenOver,
)
from allocator.gate.gate import Cause
from allocator.telemetry.cells import Count, Spread
from allocator.telemetry.families import Families
from allocator.telemetry.labels import (
    ACCOUNT,
    BURIALS,
    ENDS,
    FALLBACK_REASONS,
    FAULTS,
    OTHER,
    REFUSALS,
    STAGES,
    STOPS,
    stop_reason,
)
from allocator.telemetry.trace_ids import recorded_by_caller

LAG_SAMPLE_SECONDS = 0.1


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

    def observe(self, outcome: Outcome, status: int | None, seconds: float, trace_id: str) -> None:
        """Count one call."""
        self.outcomes[outcome].value += 1
        spread = self.statuses.get(status)
        if spread is None:
            text = "none" if status is None else str(status) if 100 <= status <= 599 else OTHER
            spread = self.statuses[status] = self._families.provider_seconds.at(*self._labels, text)
        spread.observe(seconds, trace_id)


class Metrics:
    """The observer that counts; one for each process, on a registry of its own."""

    def __init__(
        self,
        registry: CollectorRegistry,
        version: str,
        *,
        trace_of: Callable[[Leg], str] = recorded_by_caller,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trace_of` gives the trace id that an exemplar bears, or nothing."""
        self._families = families = Families(registry, clock)
        self._clock = clock
        self._trace_of = trace_of
        self._calls: dict[Destination, _Calls] = {}
        self._waits: dict[str, Spread] = {}
        self._unknown_wait: Spread | None = None
        self._received = {priority: families.received.at(priority.value) for priority in Priority}
        self._finished = {
            (state, code): families.finished.at(state.value, code.value if code else "")
            for state, codes in ENDS.items()
            for code in codes
        }
        self._requests = {state: families.request_seconds.at(state.value) for state in ENDS}
        self._queue, self._gate, self._provider, self._commit = (families.stage_seconds.at(stage) for stage in STAGES)
        self._added = families.added_seconds.at()
        self._first_choice = {True: families.first_choice.at("true"), False: families.first_choice.at("false")}
        self._redeliveries, self._lease_lost = families.redeliveries.at(), families.lease_lost.at()
        self._lag = families.loop_lag.at()
        self._parked = families.parked_total.at()
        self._begin_at_nought()
        families.build.follow(lambda: 1, version)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def expect(self, destinations: Iterable[Destination], regions: Iterable[str]) -> None:
        """Give these destinations and regions labels of their own, at 0 from now on; all others share `other`."""
        for destination in destinations:
            if destination not in self._calls:
                self._calls[destination] = _Calls(self._families, (destination.provider, destination.location))
                for place in (destination, Destination(destination.provider, ACCOUNT)):
                    self._begin_place(place)
        for region in regions:
            self._waits[region] = self._families.gate_wait_seconds.at(region)

    def follow_progress(self, state: State, count: Callable[[], int]) -> None:
        """Ask `count` at each scrape how many requests are in this state here."""
        self._families.in_progress.follow(count, state.value)

    def follow_readiness(self, is_ready: Callable[[], bool]) -> None:
        """Ask at each scrape whether this process takes requests up."""
        self._families.ready.follow(lambda: int(is_ready()))

    def count_left_out(self) -> None:
        """Count a trace that is not recorded because there are too many."""
        self._families.traces_left_out.at().value += 1

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
                calls.observe(event.outcome, event.status, event.provider_seconds, self._trace_of(event.leg))
                (self._waits.get(event.region) or self._unknown_region()).observe(event.waited_seconds)
            case Received():
                self._received[event.leg.priority].value += 1
                self._queue.observe(event.queued_seconds)
            case Finished():
                self._end(event)
            case Parked():
                self._parked.value += 1
            case FellBack():
                reason = event.reason if event.reason in FALLBACK_REASONS else OTHER
                labels = (self._region(event.from_region), self._region(event.to_region), reason)
                self._families.fallbacks.at(*labels).value += 1
            case LookedUp() | Left():
                pass
            case _:
                self._rare(event)

    def _rare(
        self,
        event: TakenOver | Refused | LeaseLost | GateShut | GateOpened | Slowed | NotReady | SessionStopped | LeftAlone
        | Reconciled | BrokerTrouble | BrokerBack | Crashed | Surveyed,
    ) -> None:  # fmt: skip
        families = self._families
        match event:
            case Surveyed():
                self._survey(event)
            case Refused():
                families.refused.at(event.code.value).value += 1
                if event.buried:
                    families.dead_letters.at(event.code.value).value += 1
            case TakenOver():
                self._redeliveries.value += 1
            case LeaseLost():
                self._lease_lost.value += 1
            case GateShut() | Slowed() | NotReady():
                self._at_place(event)
            case SessionStopped():
                families.stopped.at(stop_reason(event.reason)).value += 1
            case LeftAlone():
                families.left_alone.at().value += 1
            case BrokerTrouble():
                families.redis_errors.at(event.kind).value += 1
            case Crashed():
                families.faults.at().value += 1
            case GateOpened() | Reconciled() | BrokerBack():
                pass

    def _at_place(self, event: GateShut | Slowed | NotReady) -> None:
        families, place = self._families, self._place(event.destination)
        match event:
            case GateShut():
                families.gate_closings.at(place.provider, place.location, event.cause.value).value += 1
            case Slowed():
                families.rates_lowered.at(place.provider, place.location).value += 1
            case NotReady():
                families.not_ready.at(place.provider, place.location).value += 1

    def _end(self, event: Finished) -> None:
        finished = self._finished.get((event.state, event.code))
        if finished is None:
            finished = self._families.finished.at(event.state.value, event.code.value if event.code else "")
            self._finished[event.state, event.code] = finished
            self._requests[event.state] = self._families.request_seconds.at(event.state.value)
        finished.value += 1
        trace_id = self._trace_of(event.leg)
        self._requests[event.state].observe(event.total_seconds, trace_id)
        self._gate.observe(event.gate_seconds)
        self._provider.observe(event.provider_seconds)
        self._commit.observe(event.commit_seconds)
        # The total is counted on Redis's clock in whole milliseconds, the rest on ours: the difference may fall short.
        added_seconds = max(0.0, event.total_seconds - event.provider_seconds - event.gate_seconds)
        self._added.observe(added_seconds, trace_id)
        if event.code is Code.POISONED:
            self._families.dead_letters.at(event.code.value).value += 1
        if event.first_choice is not None:
            self._first_choice[event.first_choice].value += 1

    def _survey(self, event: Surveyed) -> None:
        """Tell the fleet's figures for as long as they hold; what is not in them is told by nobody."""
        families, depths, until = self._families, event.survey.depths, self._clock() + event.good_for_seconds
        families.queue_depth.put({(priority.value,): depth.untaken for priority, depth in depths.items()}, until)
        families.queue_pending.put({(): sum(depth.pending for depth in depths.values())}, until)
        oldest_seconds = max((depth.oldest_seconds for depth in depths.values()), default=0.0)
        families.oldest_untaken.put({(): oldest_seconds}, until)
        families.parked.put({(): event.survey.parked}, until)
        families.condemned.put({(): event.survey.condemned}, until)
        if event.orphans is not None:  # else 0 would be said of what nobody has looked at
            families.orphans.put({(kind,): count for kind, count in event.orphans.items()}, until)
            families.condemned_alive.put({(): event.condemned_alive}, until)
        rates, closed = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
        for place, state in event.gates.items():
            labels = (place.provider, place.location)
            closed[labels] = int(state.closed_seconds > 0)
            if state.rate is not None:
                rates[labels] = state.rate
        families.gate_rate.put(rates, until)
        families.gate_closed.put(closed, until)

    def _begin_at_nought(self) -> None:
        families = self._families
        for code in REFUSALS:
            families.refused.at(code.value)
        for code in BURIALS:
            families.dead_letters.at(code.value)
        for kind in FAULTS:
            families.redis_errors.at(kind)
        for word in STOPS.values():
            families.stopped.at(word)
        for one in (families.left_alone, families.faults, families.traces_left_out):
            one.at()
        families.in_progress.follow(int, State.ALLOCATING.value)
        families.ready.follow(int)

    def _begin_place(self, place: Destination) -> None:
        families, labels = self._families, (place.provider, place.location)
        for cause in Cause:
            families.gate_closings.at(*labels, cause.value)
        if place.location != ACCOUNT:
            families.rates_lowered.at(*labels)
            families.not_ready.at(*labels)

    def _region(self, name: str) -> str:
        return name if name in self._waits else OTHER

    def _place(self, destination: Destination) -> Destination:
        """The destination by which an event is told: as it is where it is expected, else the provider's `other`."""
        if destination in self._calls or destination.location == ACCOUNT:
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
