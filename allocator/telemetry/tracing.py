"""One trace a match, made of the engine's events: its queue, its gates, each call to a provider, the commit.

In: events. Out: spans of OpenTelemetry, each made whole once its step is over; `spans_out` sends them where the
`OTEL_*` variables say. Nothing is kept between events, and ids follow from the request (`trace_ids`): a match that is
taken over stays in its trace, its next leg linked to the one before, and what a dead worker had told is not lost. Of
more than `TRACES_A_SECOND` the rest is left out, so that traces never cost more than a few hundredths of a process.

What a span is called and bears follows the conventions for messaging and HTTP. No span holds `env`, `args`, labels,
an address that players dial or a credential. Imported only where traces are on: this needs the extra `otel`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from allocator import __version__
from allocator.contract.allocation import State
from allocator.contract.partitions import Partitions
from allocator.engine.observer import Attempted, Event, Finished, Left, Leg, LookedUp, Received
from allocator.telemetry.trace_ids import caller_of, own_trace_id, span_id

KNOWN_MAX = 16_384
"""Of so many requests it is remembered which trace they belong to; it can be found out again."""
TRACES_A_SECOND, TRACES_AT_ONCE = 100, 20
"""More are not begun in one process: a trace costs three to four tenths of a millisecond, most of it as it is sent."""

Attributes = Mapping[str, AttributeValue]
_SCOPE = InstrumentationScope("allocator", __version__)
_RECORDED = TraceFlags(TraceFlags.SAMPLED)
_WELL, _ILL = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_MESSAGING: Attributes = {
    "messaging.system": "redis",
    "messaging.operation.name": "allocate",
    "messaging.operation.type": "process",
}
_TOLD = (Received, Attempted, Finished, LookedUp, Left)
_LEFT_OUT = (0, False)
_ILL_STATES = frozenset({State.FAILED, State.EXPIRED})

Calls = tuple[tuple[str, Attributes], tuple[str, Attributes]]
"""How a start and a look-up are called, and what their spans bear."""

_UNKNOWN_CALLS: Calls = (("start", {}), ("find", {}))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider's sessions are started and looked up: `start` and `find` are methods with paths."""

    base_url: str
    start: str
    find: str


class Tracing:
    """The observer that makes spans, and hands each to `out`."""

    def __init__(
        self,
        out: SpanProcessor,
        *,
        sampler: Sampler,
        resource: Resource,
        partitions: Partitions,
        endpoints: Mapping[str, Endpoint],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`endpoints` by provider; `sampler` says of a trace that begins here whether it is recorded."""
        self._out = out
        self._sampler = sampler
        self._resource = resource
        self._partitions = partitions
        self._wall_ns = wall_ns
        self._known: dict[str, tuple[int, bool]] = {}
        self._room, self._room_at_ns = float(TRACES_AT_ONCE), wall_ns()
        """How many may be begun now, as of when."""
        self.left_out: Callable[[], None] = _nothing
        """Called for each trace that is not recorded because there are too many."""
        self._calls = {provider: _http(each) for provider, each in endpoints.items()}

    def trace_of(self, leg: Leg) -> str:
        """The id of the trace, for exemplars and logs; empty where it is not recorded."""
        trace_id, is_recorded = self._trace(leg)
        return f"{trace_id:032x}" if is_recorded else ""

    def observe(self, event: Event) -> None:
        """Make the spans that this event completes."""
        if not isinstance(event, _TOLD) or not self._trace(event.leg)[1]:
            return
        match event:
            case Received(leg, seconds):
                self._within(leg, "queue", self._ago(seconds), seconds, {})
            case Attempted():
                self._attempted(event)
            case Finished(leg):
                self._within(leg, "commit", self._ago(event.commit_seconds), event.commit_seconds, {})
                self._finished(event)
            case LookedUp():
                name, http = self._call(event.provider, 1)
                attributes = {**http, "allocator.provider": event.provider, "allocator.found": event.found}
                kind = SpanKind.CLIENT
                self._within(event.leg, name, self._at(event.asked_at), event.seconds, attributes, kind=kind)
            case Left(leg, why, seconds):
                self._leg(leg, seconds, {"allocator.left": why}, _ILL if why == "fault" else _WELL)

    def _attempted(self, event: Attempted) -> None:
        place = {
            "allocator.region": event.region,
            "allocator.destination": str(event.destination),
        }
        called_ns = self._at(event.called_at)
        waited_ns = round(event.waited_seconds * 1e9)
        self._within(event.leg, "gate", called_ns - waited_ns, event.waited_seconds, place)
        name, http = self._call(event.destination.provider, 0)
        attributes: dict[str, AttributeValue] = {**http, **place, "allocator.outcome": event.outcome.value}
        refused = event.status is None or event.status >= 400
        if event.status is not None:
            attributes["http.response.status_code"] = event.status
        if refused:
            attributes["error.type"] = str(event.status or event.outcome.value)
        status = _ILL if refused else _WELL
        self._within(
            event.leg, name, called_ns, event.provider_seconds, attributes, kind=SpanKind.CLIENT, status=status
        )

    def _finished(self, event: Finished) -> None:
        attributes: dict[str, AttributeValue] = {
            "allocator.state": event.state.value,
            "allocator.attempts": event.attempts,
        }
        if event.region is not None and event.destination is not None:
            attributes["allocator.region"] = event.region
            attributes["allocator.destination"] = str(event.destination)
        if event.code is not None:
            attributes["error.type"] = event.code.value
        # The first leg begins where Redis took the entry, so that its queue lies within it.
        seconds = event.leg_seconds if event.leg.before else event.total_seconds
        self._leg(event.leg, seconds, attributes, _ILL if event.state in _ILL_STATES else _WELL)

    def _leg(self, leg: Leg, seconds: float, attributes: Attributes, status: Status) -> None:
        """The span of the leg itself, which ends now."""
        trace_id, _ = self._trace(leg)
        first, caller = _context(trace_id, span_id(trace_id, (1, 0)), is_remote=True), caller_of(leg)
        parent = None if leg.place == (1, 0) else first
        if caller is not None:
            parent = _context(trace_id, int(caller.span_id, 16), is_remote=True)
        links = [Link(_context(trace_id, span_id(trace_id, leg.before), is_remote=True))] if leg.before else []
        stream = self._partitions.of(leg.request_id).requests(leg.priority)
        told = {
            **_MESSAGING,
            "messaging.destination.name": stream,
            "messaging.message.id": leg.entry_id,
            "allocator.request_id": leg.request_id,
            **attributes,
        }
        self._emit(
            f"allocate {stream}",
            context=_context(trace_id, span_id(trace_id, leg.place)),
            parent=parent,
            start_ns=self._ago(seconds),
            seconds=seconds,
            attributes=told,
            kind=SpanKind.CONSUMER,
            status=status,
            links=links,
        )

    def _within(
        self,
        leg: Leg,
        name: str,
        start_ns: int,
        seconds: float,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status = _WELL,
    ) -> None:
        """Tell of a step within a leg."""
        trace_id, _ = self._trace(leg)
        self._emit(
            name,
            context=_context(trace_id, random.getrandbits(64) or 1),
            parent=_context(trace_id, span_id(trace_id, leg.place)),
            start_ns=start_ns,
            seconds=seconds,
            attributes=attributes,
            kind=kind,
            status=status,
        )

    def _emit(
        self,
        name: str,
        *,
        context: SpanContext,
        parent: SpanContext | None,
        start_ns: int,
        seconds: float,
        attributes: Attributes,
        kind: SpanKind,
        status: Status,
        links: Sequence[Link] = (),
    ) -> None:
        # Made whole, past a tracer: its locks and its copies cost more than all else here.
        self._out.on_end(
            ReadableSpan(
                name,
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=attributes,
                links=links,
                kind=kind,
                status=status,
                start_time=start_ns,
                end_time=start_ns + round(seconds * 1e9),
                instrumentation_scope=_SCOPE,
            )
        )

    def _trace(self, leg: Leg) -> tuple[int, bool]:
        """The trace of a request, and whether it is recorded: the sampler is asked once."""
        key = leg.traceparent or f"{leg.entry_id} {leg.request_id}"
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                del self._known[next(iter(self._known))]
            known = self._known[key] = self._found_out(leg)
        return known

    def _found_out(self, leg: Leg) -> tuple[int, bool]:
        if self._is_full():
            return _LEFT_OUT
        caller, parent = caller_of(leg), None
        trace_id = own_trace_id(leg, self._partitions.namespace) if caller is None else int(caller.trace_id, 16)
        if caller is not None:
            flags = _RECORDED if caller.sampled else TraceFlags()
            context = SpanContext(trace_id, int(caller.span_id, 16), is_remote=True, trace_flags=flags)
            parent = set_span_in_context(NonRecordingSpan(context))
        result = self._sampler.should_sample(parent, trace_id, "allocate", SpanKind.CONSUMER)
        is_recorded = result.decision is Decision.RECORD_AND_SAMPLE
        self._room -= is_recorded
        return trace_id, is_recorded

    def _is_full(self) -> bool:
        """Whether no more may be begun for now; asked before the sampler, which takes longer."""
        now_ns = self._wall_ns()
        gained = max(0, now_ns - self._room_at_ns) * 1e-9 * TRACES_A_SECOND
        self._room, self._room_at_ns = min(float(TRACES_AT_ONCE), self._room + gained), now_ns
        if self._room >= 1:
            return False
        self.left_out()
        return True

    def _call(self, provider: str, number: int) -> tuple[str, Attributes]:
        return self._calls.get(provider, _UNKNOWN_CALLS)[number]

    def _at(self, loop_seconds: float) -> int:
        """A moment of the loop's clock as Unix nanoseconds."""
        return self._ago(asyncio.get_running_loop().time() - loop_seconds)

    def _ago(self, seconds: float) -> int:
        return self._wall_ns() - round(seconds * 1e9)


def _nothing() -> None:
    """Nobody counts."""


def _context(trace_id: int, span: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span, is_remote=is_remote, trace_flags=_RECORDED)


def _http(endpoint: Endpoint) -> Calls:
    """The names and attributes of the two calls, as the conventions for HTTP have them."""
    parts = urlsplit(endpoint.base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    calls: list[tuple[str, Attributes]] = []
    for call in (endpoint.start, endpoint.find):
        method, _, path = call.partition(" ")
        attributes: Attributes = {
            "http.request.method": method,
            "url.full": f"{endpoint.base_url}{path}",
            "server.address": parts.hostname or "",
            "server.port": port,
        }
        calls.append((call, attributes))
    return calls[0], calls[1]
