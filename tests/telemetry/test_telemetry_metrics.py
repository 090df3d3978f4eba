"""What each event moves, what stands there before any event, and that no label grows without a bound."""

import asyncio
import time
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from allocator.broker.broker import Depth, Survey
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
    Received,
    Reconciled,
    Refused,
    SessionStopped,
    Surveyed,
    TakenOver,
)
from allocator.gate.gate import Cause
from allocator.telemetry.exposition import OPENMETRICS, PLAIN, slices
from allocator.telemetry.metrics import Metrics

EUROPE = Destination("gameye", "europe")
ACCOUNT = Destination("gameye", "*")
CONTRACT = {
    "requests_received_total": {"priority"},
    "requests_finished_total": {"state", "code"},
    "requests_refused_total": {"code"},
    "request_duration_seconds": {"state"},
    "stage_duration_seconds": {"stage"},
    "added_latency_seconds": set(),
    "attempts_total": {"provider", "location", "outcome"},
    "provider_request_duration_seconds": {"provider", "location", "status"},
    "fallbacks_total": {"from_region", "to_region", "reason"},
    "first_choice_total": {"hit"},
    "gate_wait_seconds": {"region"},
    "gate_rate": {"provider", "location"},
    "gate_closed": {"provider", "location"},
    "requests_in_progress": {"state"},
    "queue_depth": {"priority"},
    "queue_pending": set(),
    "oldest_untaken_seconds": set(),
    "parked_requests": set(),
    "redeliveries_total": set(),
    "lease_lost_total": set(),
    "dead_letters_total": {"code"},
    "condemned_sessions": set(),
    "orphan_sessions": {"kind"},
    "sessions_stopped_total": {"reason"},
    "redis_errors_total": {"kind"},
    "event_loop_lag_seconds": set(),
    "build_info": {"version"},
}
"""Section 8 of the public contract."""

Values = dict[str, float]
parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry, clock: Clock) -> Metrics:
    metrics = Metrics(registry, "1.2.3", clock=clock)
    metrics.expect([EUROPE], ["europe", "us-east"])
    return metrics


def text(registry: CollectorRegistry, content: str = PLAIN) -> str:
    return "".join(slices(registry, content))


def values(registry: CollectorRegistry) -> Values:
    """Every sample of this program's own metrics, as `name{label="value"}` without the prefix."""
    found: Values = {}
    for family in parse_plain(text(registry)):
        for sample in family.samples:
            if sample.name.startswith("allocator_"):
                labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                found[sample.name.removeprefix("allocator_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def moved(metrics: Metrics, registry: CollectorRegistry, *events: Event) -> Values:
    """What the events changed, buckets left out: they move with their count."""
    before = values(registry)
    for event in events:
        metrics.observe(event)
    after = values(registry)
    changed = {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}
    return {key: value for key, value in changed.items() if "_bucket" not in key}


def attempted(
    destination: Destination = EUROPE, *, region: str = "europe", status: int | None = 201, message: str = ""
) -> Attempted:
    return Attempted("m-1", region, destination, Outcome.CREATED, status, 0.02, 0.3, message)


def finished(state: State = State.ALLOCATED, code: Code | None = None, *, total: float = 0.5) -> Finished:
    first = True if state is State.ALLOCATED else None
    return Finished("m-1", state, code, total, 0.3, 0.02, 0.004, first)


SURVEY = Survey(
    held=3,
    condemned=2,
    depths={Priority.HIGH: Depth(1, 0, 0.5), Priority.NORMAL: Depth(7, 4, 9.0), Priority.LOW: Depth(0, 1, 0.0)},
)


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (
            Received(Priority.HIGH, 0.25),
            {
                'requests_received_total{priority="high"}': 1,
                'stage_duration_seconds_count{stage="queue"}': 1,
                'stage_duration_seconds_sum{stage="queue"}': 0.25,
            },
        ),
        (
            attempted(),
            {
                'attempts_total{location="europe",outcome="created",provider="gameye"}': 1,
                'provider_request_duration_seconds_count{location="europe",provider="gameye",status="201"}': 1,
                'provider_request_duration_seconds_sum{location="europe",provider="gameye",status="201"}': 0.3,
                'gate_wait_seconds_count{region="europe"}': 1,
                'gate_wait_seconds_sum{region="europe"}': 0.02,
            },
        ),
        (
            finished(),
            {
                'requests_finished_total{code="",state="allocated"}': 1,
                'request_duration_seconds_count{state="allocated"}': 1,
                'request_duration_seconds_sum{state="allocated"}': 0.5,
                'stage_duration_seconds_count{stage="gate"}': 1,
                'stage_duration_seconds_sum{stage="gate"}': 0.02,
                'stage_duration_seconds_count{stage="provider"}': 1,
                'stage_duration_seconds_sum{stage="provider"}': 0.3,
                'stage_duration_seconds_count{stage="commit"}': 1,
                'stage_duration_seconds_sum{stage="commit"}': 0.004,
                "added_latency_seconds_count": 1,
                "added_latency_seconds_sum": 0.18,
                'first_choice_total{hit="true"}': 1,
            },
        ),
        (
            FellBack("europe", "us-east", "no_capacity"),
            {'fallbacks_total{from_region="europe",reason="no_capacity",to_region="us-east"}': 1},
        ),
        (
            Refused(Code.ID_CONFLICT, "other body", "m-1", buried=False),
            {'requests_refused_total{code="id_conflict"}': 1},
        ),
        (
            Refused(Code.INVALID_REQUEST, "not JSON", None, buried=True),
            {'requests_refused_total{code="invalid_request"}': 1, 'dead_letters_total{code="invalid_request"}': 1},
        ),
        (TakenOver("m-1", uncertain=True), {"redeliveries_total": 1}),
        (LeaseLost("m-1"), {"lease_lost_total": 1}),
        (GateShut(EUROPE, Cause.FULL, 2.0, ""), {'gate_closed{location="europe",provider="gameye"}': 1}),
        (GateShut(ACCOUNT, Cause.CREDENTIAL, 9.0, ""), {'gate_closed{location="*",provider="gameye"}': 1}),
        (GateOpened(EUROPE), {}),
        (
            SessionStopped("gameye", "id", "taken over from another worker"),
            {'sessions_stopped_total{reason="taken_over"}': 1},
        ),
        (SessionStopped("gameye", "id", "start answered 503"), {'sessions_stopped_total{reason="unknown_answer"}': 1}),
        (SessionStopped("gameye", "id", "whatever m-1 says"), {'sessions_stopped_total{reason="other"}': 1}),
        (SessionStopped("gameye", "id", "release m-1 1-0"), {'sessions_stopped_total{reason="release"}': 1}),
        (
            Reconciled({"unexplained": 3, "superseded": 1}, 2, {}, passed=False),
            {'orphan_sessions{kind="unexplained"}': 3, 'orphan_sessions{kind="superseded"}': 1},
        ),
        (BrokerTrouble("commit", "timeout", "no answer"), {'redis_errors_total{kind="timeout"}': 1}),
        (BrokerBack(1.0), {}),
        (Crashed("take", ValueError("x")), {}),
        (
            Surveyed(SURVEY),
            {
                'queue_depth{priority="high"}': 1,
                'queue_depth{priority="normal"}': 7,
                "queue_pending": 5,
                "oldest_untaken_seconds": 9.0,
                "condemned_sessions": 2,
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_each_event_moves_its_metrics_and_no_others(
    metrics: Metrics, registry: CollectorRegistry, event: Event, changes: Values
) -> None:
    assert moved(metrics, registry, event) == pytest.approx(changes)


def test_an_end_that_was_not_foreseen_is_counted_from_its_first_time_on(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    event = finished(State.CANCELLED)
    changes = moved(metrics, registry, event, event)
    assert changes['requests_finished_total{code="",state="cancelled"}'] == 2
    assert changes['request_duration_seconds_count{state="cancelled"}'] == 2


def test_added_latency_never_falls_below_nought(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(finished(total=0.3))
    assert values(registry)["added_latency_seconds_sum"] == 0


def test_names_and_labels_are_the_contracts(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.set_rates({EUROPE: 40})
    reconciled = Reconciled({"unexplained": 1, "superseded": 0}, 0, {}, passed=True)
    for event in (attempted(), FellBack("europe", "us-east", "throttled"), reconciled):
        metrics.observe(event)
    found: dict[str, set[str]] = {}
    for family in parse_plain(text(registry)):
        if family.name.startswith("allocator_"):
            name = family.name.removeprefix("allocator_") + ("_total" if family.type == "counter" else "")
            found[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert found == CONTRACT


def test_what_can_be_known_beforehand_stands_at_nought(metrics: Metrics, registry: CollectorRegistry) -> None:
    found = values(registry)
    assert [found[f'requests_received_total{{priority="{each}"}}'] for each in ("high", "normal", "low")] == [0, 0, 0]
    for outcome in Outcome:
        assert found[f'attempts_total{{location="europe",outcome="{outcome}",provider="gameye"}}'] == 0
    for state, code in (("allocated", ""), ("failed", "rejected"), ("expired", "no_capacity"), ("expired", "deadline")):
        assert found[f'requests_finished_total{{code="{code}",state="{state}"}}'] == 0
    for location in ("europe", "*"):
        assert found[f'gate_closed{{location="{location}",provider="gameye"}}'] == 0
    for region in ("europe", "us-east"):
        assert found[f'gate_wait_seconds_count{{region="{region}"}}'] == 0
    for hit in ("true", "false"):
        assert found[f'first_choice_total{{hit="{hit}"}}'] == 0
    assert found["parked_requests"] == found["lease_lost_total"] == found["redeliveries_total"] == 0
    assert found['build_info{version="1.2.3"}'] == 1


def test_a_thousand_unknown_regions_and_locations_share_one_label(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    unknown = Destination("gameye", "atlantis-0")
    metrics.observe(attempted(unknown, region="atlantis-0"))
    metrics.observe(GateShut(unknown, Cause.FULL, 2.0, ""))
    metrics.observe(FellBack("atlantis-0", "europe", "atlantis-0"))
    metrics.observe(SessionStopped("gameye", "id", "atlantis-0"))
    before = values(registry)
    for number in range(1, 1000):
        unknown = Destination("gameye", f"atlantis-{number}")
        metrics.observe(attempted(unknown, region=unknown.location))
        metrics.observe(GateShut(unknown, Cause.FULL, 2.0, ""))
        metrics.observe(FellBack(unknown.location, "europe", unknown.location))
        metrics.observe(SessionStopped("gameye", "id", unknown.location))
    after = values(registry)
    assert after.keys() == before.keys()
    assert "atlantis" not in text(registry)
    assert after['attempts_total{location="other",outcome="created",provider="gameye"}'] == 1000
    assert after['gate_wait_seconds_count{region="other"}'] == 1000
    assert after['fallbacks_total{from_region="other",reason="other",to_region="europe"}'] == 1000
    assert after['gate_closed{location="other",provider="gameye"}'] == 1


def test_no_id_and_no_message_reaches_the_text(metrics: Metrics, registry: CollectorRegistry) -> None:
    for event in (
        attempted(message="said-secret"),
        Refused(Code.INVALID_REQUEST, "said-secret", "m-1", buried=True),
        GateShut(EUROPE, Cause.CREDENTIAL, 10.0, "said-secret"),
        BrokerTrouble("take", "connection", "said-secret"),
        SessionStopped("gameye", "m-1", "start answered said-secret"),
        Crashed("request m-1", ValueError("said-secret")),
    ):
        metrics.observe(event)
    assert not [word for word in ("said-secret", "m-1") if word in text(registry)]


def test_a_status_is_a_label_only_where_http_has_it(metrics: Metrics, registry: CollectorRegistry) -> None:
    for status in (None, 420, 777, 999):
        metrics.observe(attempted(status=status))
    name = 'provider_request_duration_seconds_count{{location="europe",provider="gameye",status="{}"}}'
    counts = {status: values(registry).get(name.format(status)) for status in ("none", "420", "777", "other")}
    assert counts == {"none": 1, "420": 1, "777": None, "other": 2}


def test_a_shut_gate_is_told_until_its_seconds_are_past_or_a_probe_opens_it(
    metrics: Metrics, registry: CollectorRegistry, clock: Clock
) -> None:
    def closed() -> tuple[float, float]:
        found = values(registry)
        return (
            found['gate_closed{location="europe",provider="gameye"}'],
            found['gate_closed{location="*",provider="gameye"}'],
        )

    metrics.observe(GateShut(EUROPE, Cause.FULL, 2.0, ""))
    assert closed() == (1, 0)
    clock.now += 1.5
    metrics.observe(GateShut(EUROPE, Cause.FULL, 2.0, ""))
    clock.now += 1.5
    assert closed() == (1, 0)
    clock.now += 0.6
    assert closed() == (0, 0)
    metrics.observe(GateShut(EUROPE, Cause.FULL, 60.0, ""))
    metrics.observe(GateShut(ACCOUNT, Cause.CREDENTIAL, 10.0, ""))
    assert closed() == (1, 1)
    metrics.observe(GateOpened(EUROPE))
    assert closed() == (0, 0)


def test_rates_and_requests_in_progress_are_told_as_they_are(metrics: Metrics, registry: CollectorRegistry) -> None:
    held = [1, 2, 3]
    metrics.set_rates({EUROPE: 40, ACCOUNT: 200.5})
    metrics.follow_progress(State.ALLOCATING, lambda: len(held))
    found = values(registry)
    assert found['gate_rate{location="europe",provider="gameye"}'] == 40
    assert found['gate_rate{location="*",provider="gameye"}'] == 200.5
    assert found['requests_in_progress{state="allocating"}'] == 3
    held.clear()
    assert values(registry)['requests_in_progress{state="allocating"}'] == 0


async def test_a_loop_that_was_held_up_shows_in_its_lag(
    metrics: Metrics, registry: CollectorRegistry, wait_until: object
) -> None:
    assert callable(wait_until)
    watch = asyncio.get_running_loop().create_task(metrics.watch_loop_lag(0.001))
    try:
        await wait_until(lambda: values(registry)["event_loop_lag_seconds_count"] > 1)
        held_until = time.perf_counter() + 0.06
        while time.perf_counter() < held_until:
            pass
        await wait_until(lambda: values(registry)["event_loop_lag_seconds_sum"] > 0.05)
    finally:
        watch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watch
    found = values(registry)
    assert found['event_loop_lag_seconds_bucket{le="0.05"}'] < found["event_loop_lag_seconds_count"]


def test_both_texts_parse_and_say_the_same_as_prometheus_clients_own(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    for event in (Received(Priority.LOW, 0.05), attempted(), attempted(status=None), finished(), Surveyed(SURVEY)):
        metrics.observe(event)
    metrics.expect([Destination("gameye", 'a"b\\c\nd')], ['a"b\\c\nd'])

    def ours(families: Iterable[Metric]) -> dict[str, Metric]:
        # The plain text has no type `info`: there it is a gauge of the whole name.
        named = {family.name.removesuffix("_info"): family for family in families}
        return {name: family for name, family in named.items() if name.startswith("allocator_")}

    plain = ours(parse_plain(text(registry)))
    assert plain == ours(parse_plain(generate_latest(registry).decode()))
    assert ours(parse_openmetrics(text(registry, OPENMETRICS))).keys() == plain.keys()
