"""Which spans a match leaves: what they are called, what they bear, whose children they are, when there are none."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.engine.observer import Attempted, Event, Finished, GateOpened, Left, Leg, LookedUp, Received
from allocator.service.observers import TracesUnavailable, build_observers
from allocator.service.settings import Settings
from allocator.telemetry import tracing as module
from allocator.telemetry.tracing import KNOWN_MAX, TRACES_A_SECOND, TRACES_AT_ONCE, Endpoint, Tracing

NOW_NS = 1_800_000_000_000_000_000
SECOND_NS = 10**9
TRACE_ID, CALLER_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
TRACEPARENT = f"00-{TRACE_ID:032x}-{CALLER_ID:016x}-01"
UNRECORDED = f"00-{TRACE_ID:032x}-{CALLER_ID:016x}-00"
ENTRY = "1799999999000-0"
EUROPE, US_EAST = Destination("gameye", "europe"), Destination("gameye", "us-east")
ENDPOINTS = {"gameye": Endpoint("https://api.example", "POST /session", "GET /session/{id}")}

Traced = Callable[..., Tracing]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(exporter: InMemorySpanExporter) -> Traced:
    """`traced(sampler)`: the observer, whose spans end up with the fixture `exporter`."""

    def make(sampler: Sampler | None = None, namespace: str = "allocator", count: int = 1) -> Tracing:
        return Tracing(
            SimpleSpanProcessor(exporter),
            sampler=sampler or TracerProvider(shutdown_on_exit=False).sampler,
            resource=Resource({"service.name": "allocator"}),
            partitions=Partitions(namespace, count),
            endpoints=ENDPOINTS,
            wall_ns=lambda: NOW_NS,
        )

    return make


def leg(traceparent: str | None = TRACEPARENT, **options: Any) -> Leg:
    return Leg("m-1", ENTRY, Priority.HIGH, traceparent, **options)


def attempted(of: Leg, to: Destination = EUROPE, outcome: Outcome = Outcome.CREATED, status: int | None = 201) -> Event:
    called_at = asyncio.get_running_loop().time() - 0.5
    return Attempted(of, to.location, to, outcome, status, 0.1, 0.3, called_at, "said something")


def finished(of: Leg, state: State = State.ALLOCATED, code: Code | None = None) -> Finished:
    return Finished(
        of,
        state,
        code,
        total_seconds=1.0,
        provider_seconds=0.6,
        gate_seconds=0.2,
        commit_seconds=0.01,
        first_choice=False,
        leg_seconds=0.75,
        attempts=2,
        region="us-east" if state is State.ALLOCATED else None,
        destination=US_EAST if state is State.ALLOCATED else None,
    )


def spans_by_name(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    number: int = span.context.span_id
    return number


async def test_a_match_is_one_trace_from_the_callers_span_through_queue_gates_calls_and_commit(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    tracing, of = traced(), leg()
    for event in (
        Received(of, 0.05),
        attempted(of, EUROPE, Outcome.NO_CAPACITY, 420),
        attempted(of, US_EAST),
        GateOpened(US_EAST),
        finished(of),
    ):
        tracing.observe(event)
    found = spans_by_name(exporter)
    names = {name: len(spans) for name, spans in found.items()}
    assert names == {"queue": 1, "gate": 2, "POST /session": 2, "commit": 1, "allocate {allocator}:requests:high": 1}
    (root,) = found["allocate {allocator}:requests:high"]
    assert root.parent is not None
    assert (root.parent.span_id, root.parent.is_remote) == (CALLER_ID, True)
    assert {span.context.trace_id for span in exporter.get_finished_spans() if span.context} == {TRACE_ID}
    children = [span for span in exporter.get_finished_spans() if span is not root]
    assert {span.parent.span_id for span in children if span.parent} == {id_of(root)}
    assert len({id_of(span) for span in exporter.get_finished_spans()}) == 7
    assert (root.start_time, root.end_time) == (NOW_NS - SECOND_NS, NOW_NS)
    (queue,), (commit,) = found["queue"], found["commit"]
    assert (queue.start_time, queue.end_time) == (NOW_NS - SECOND_NS // 20, NOW_NS)
    assert (commit.start_time, commit.end_time) == (NOW_NS - SECOND_NS // 100, NOW_NS)


async def test_what_spans_bear_follows_the_conventions_for_messaging_and_http(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    tracing, of = traced(), leg()
    for event in (attempted(of, EUROPE, Outcome.NO_CAPACITY, 420), attempted(of, US_EAST), finished(of)):
        tracing.observe(event)
    found = spans_by_name(exporter)
    (root,) = found["allocate {allocator}:requests:high"]
    assert root.kind is SpanKind.CONSUMER
    assert dict(root.attributes or {}) == {
        "messaging.system": "redis",
        "messaging.operation.name": "allocate",
        "messaging.operation.type": "process",
        "messaging.destination.name": "{allocator}:requests:high",
        "messaging.message.id": ENTRY,
        "allocator.request_id": "m-1",
        "allocator.state": "allocated",
        "allocator.attempts": 2,
        "allocator.region": "us-east",
        "allocator.destination": "gameye/us-east",
    }
    full, well = found["POST /session"]
    assert (full.kind, full.status.status_code, well.status.status_code) == (
        SpanKind.CLIENT,
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert dict(full.attributes or {}) == {
        "http.request.method": "POST",
        "http.response.status_code": 420,
        "error.type": "420",
        "url.full": "https://api.example/session",
        "server.address": "api.example",
        "server.port": 443,
        "allocator.region": "europe",
        "allocator.destination": "gameye/europe",
        "allocator.outcome": "no_capacity",
    }
    assert full.start_time == pytest.approx(NOW_NS - SECOND_NS // 2, abs=SECOND_NS // 20)
    assert (full.end_time or 0) - (full.start_time or 0) == 3 * SECOND_NS // 10
    gate = found["gate"][0]
    assert gate.end_time == full.start_time
    assert (gate.end_time or 0) - (gate.start_time or 0) == SECOND_NS // 10
    said = [str(value) for span in exporter.get_finished_spans() for value in (span.attributes or {}).values()]
    assert "said something" not in said


async def test_a_call_without_an_answer_is_an_error_and_its_look_up_a_call_of_its_own(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    tracing, of = traced(), leg()
    tracing.observe(LookedUp(of, "gameye", "alive", asyncio.get_running_loop().time() - 0.2, 0.2))
    tracing.observe(attempted(of, EUROPE, Outcome.UNKNOWN, None))
    found = spans_by_name(exporter)
    (look_up,), (call,) = found["GET /session/{id}"], found["POST /session"]
    assert (look_up.kind, (look_up.attributes or {})["allocator.found"]) == (SpanKind.CLIENT, "alive")
    assert call.status.status_code is StatusCode.ERROR
    assert (call.attributes or {})["error.type"] == "unknown"
    assert "http.response.status_code" not in (call.attributes or {})


async def test_a_match_that_is_taken_over_stays_in_its_trace_and_links_to_the_leg_before(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    dead, alive = traced(), traced()
    dead.observe(Received(leg(None), 0.01))
    alive.observe(finished(leg(None, place=(2, 0), before=(1, 0))))
    found = spans_by_name(exporter)
    (queue,), (second,) = found["queue"], found["allocate {allocator}:requests:high"]
    assert queue.parent is not None
    assert second.context is not None
    assert [link.context.span_id for link in second.links] == [queue.parent.span_id]
    assert second.links[0].context.trace_id == second.context.trace_id == queue.parent.trace_id
    assert second.parent is not None
    assert second.parent.span_id == queue.parent.span_id, "without a caller the first leg is the root"
    assert (second.start_time, second.end_time) == (NOW_NS - 3 * SECOND_NS // 4, NOW_NS)


async def test_each_leg_of_a_parked_match_is_a_span_linked_to_the_one_before(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    tracing = traced()
    tracing.observe(Left(leg(), "parked", 0.2))
    tracing.observe(Left(leg(place=(1, 1700), before=(1, 0)), "parked", 0.3))
    tracing.observe(finished(leg(place=(1, 1800), before=(1, 1700))))
    first, second, last = spans_by_name(exporter)["allocate {allocator}:requests:high"]
    assert not first.links
    assert [link.context.span_id for link in second.links] == [id_of(first)]
    assert [link.context.span_id for link in last.links] == [id_of(second)]
    assert {span.parent.span_id for span in (first, second, last) if span.parent} == {CALLER_ID}
    assert (second.attributes or {})["allocator.left"] == "parked"


async def test_a_partition_is_named_by_its_own_stream(traced: Traced, exporter: InMemorySpanExporter) -> None:
    traced(count=4).observe(finished(leg()))
    assert exporter.get_finished_spans()[-1].name == f"allocate {{allocator:{crc32(b'm-1') % 4}}}:requests:high"


@pytest.mark.parametrize(
    ("state", "code", "is_error"),
    [(State.EXPIRED, Code.NO_CAPACITY, True), (State.FAILED, Code.REJECTED, True), (State.CANCELLED, None, False)],
)
async def test_a_bad_end_says_its_code(
    traced: Traced, exporter: InMemorySpanExporter, state: State, code: Code | None, *, is_error: bool
) -> None:
    traced().observe(finished(leg(), state, code))
    (root,) = spans_by_name(exporter)["allocate {allocator}:requests:high"]
    assert (root.status.status_code is StatusCode.ERROR) is is_error
    assert (root.attributes or {}).get("error.type") == (None if code is None else code.value)


async def test_what_the_caller_does_not_record_leaves_no_span_and_no_exemplar(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    tracing = traced()
    tracing.observe(finished(leg(UNRECORDED)))
    assert exporter.get_finished_spans() == ()
    assert tracing.trace_of(leg(UNRECORDED)) == ""
    assert tracing.trace_of(leg()) == f"{TRACE_ID:032x}"


async def test_workers_agree_on_the_trace_of_a_request_that_names_none_and_on_whether_it_is_recorded(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRACES_AT_ONCE", 2000)
    legs = [Leg(f"m-{number}", f"17-{number}", Priority.LOW) for number in range(2000)]
    one, other = (traced(ParentBased(TraceIdRatioBased(0.1))) for _ in range(2))
    ids = [one.trace_of(each) for each in legs]
    assert ids == [other.trace_of(each) for each in reversed(legs)][::-1]
    recorded = [each for each in ids if each]
    assert len(set(recorded)) == len(recorded)
    assert 100 < len(recorded) < 300
    everywhere = traced(namespace="another").trace_of(legs[0])
    assert everywhere != traced().trace_of(legs[0])


async def test_more_traces_than_so_many_at_once_or_a_second_are_left_out_whole_and_counted(
    exporter: InMemorySpanExporter,
) -> None:
    now_ns, left_out = NOW_NS, list[int]()
    tracing = Tracing(
        SimpleSpanProcessor(exporter),
        sampler=TracerProvider(shutdown_on_exit=False).sampler,
        resource=Resource({}),
        partitions=Partitions("allocator"),
        endpoints={},
        wall_ns=lambda: now_ns,
    )
    tracing.left_out = lambda: left_out.append(1)
    legs = [Leg(f"m-{number}", f"17-{number}", Priority.LOW) for number in range(TRACES_AT_ONCE + 50)]
    for each in legs:
        tracing.observe(Received(each, 0.01))
    now_ns += SECOND_NS
    for each in legs:
        tracing.observe(finished(each))
    assert len(left_out) == 50
    assert len(exporter.get_finished_spans()) == 3 * TRACES_AT_ONCE
    assert tracing.trace_of(legs[-1]) == ""
    tracing.observe(finished(leg()))
    assert len(exporter.get_finished_spans()) == 3 * TRACES_AT_ONCE + 2
    begun = 0
    for number in range(3000):
        now_ns += SECOND_NS // 1000
        begun += bool(tracing.trace_of(Leg(f"n-{number}", f"18-{number}", Priority.LOW)))
    assert begun == pytest.approx(3 * TRACES_A_SECOND, abs=TRACES_AT_ONCE)


async def test_what_is_remembered_of_traces_is_bounded(traced: Traced) -> None:
    tracing = traced()
    for number in range(2 * KNOWN_MAX):
        tracing.trace_of(Leg("m-1", f"17-{number}", Priority.LOW))
    assert len(tracing._known) <= KNOWN_MAX


def test_traces_without_the_extra_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("allocator.telemetry.spans_out")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(
        TracesUnavailable, match=r"pip install '\.\[otel\]' where it was installed from, or set telemetry.traces to"
    ) as caught:
        build_observers(Settings(telemetry={"traces": "otlp"}))
    assert "opentelemetry.exporter.otlp.proto.http.trace_exporter is missing" in str(caught.value)
