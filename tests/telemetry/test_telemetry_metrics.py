"""What each event moves, what stands there before any event, and that no label grows without a bound."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.engine.observer import (
    BrokerBack,
    BrokerTrouble,
    Crashed,
    Event,
    FellBack,
    GateOpened,
    GateShut,
    LeaseLost,
    Left,
    LeftAlone,
    LookedUp,
    NotReady,
    Parked,
    Received,
    Reconciled,
    Refused,
    SessionStopped,
    Slowed,
    TakenOver,
)
from allocator.gate.gate import Cause
from allocator.telemetry import describe
from allocator.telemetry.metrics import Metrics
from tests.telemetry.readings import ACCOUNT, EUROPE, LEG, SURVEYED, Values, attempted, finished, moved, text, values

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
PAGE = Path(__file__).parents[2] / "deploy/docs/metrics.md"


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (
            Received(LEG, 0.25),
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
        (
            GateShut(EUROPE, Cause.FULL, 2.0, ""),
            {'gate_closings_total{cause="full",location="europe",provider="gameye"}': 1},
        ),
        (
            GateShut(ACCOUNT, Cause.CREDENTIAL, 9.0, ""),
            {'gate_closings_total{cause="credential",location="*",provider="gameye"}': 1},
        ),
        (GateOpened(EUROPE), {}),
        (Slowed(EUROPE, 12.0), {'rates_lowered_total{location="europe",provider="gameye"}': 1}),
        (Parked("m-1"), {"requests_parked_total": 1}),
        (NotReady("m-1", EUROPE, ""), {'sessions_not_ready_total{location="europe",provider="gameye"}': 1}),
        (LeftAlone("gameye", "id", "ended failed"), {"sessions_left_alone_total": 1}),
        (LookedUp(LEG, "gameye", "absent", 0.0, 0.1), {}),
        (Left(LEG, "parked", 0.1), {}),
        (
            SessionStopped("gameye", "id", "taken over from another worker"),
            {'sessions_stopped_total{reason="taken_over"}': 1},
        ),
        (SessionStopped("gameye", "id", "start answered 503"), {'sessions_stopped_total{reason="unknown_answer"}': 1}),
        (SessionStopped("gameye", "id", "whatever m-1 says"), {'sessions_stopped_total{reason="other"}': 1}),
        (SessionStopped("gameye", "id", "release m-1 1-0"), {'sessions_stopped_total{reason="release"}': 1}),
        (Reconciled({"unexplained": 3, "superseded": 1}, 2, {}, passed=True), {}),
        (BrokerTrouble("commit", "timeout", "no answer"), {'redis_errors_total{kind="timeout"}': 1}),
        (BrokerBack(1.0), {}),
        (Crashed("take", ValueError("x")), {"faults_total": 1}),
        (
            SURVEYED,
            {
                'queue_depth{priority="high"}': 1,
                'queue_depth{priority="normal"}': 7,
                "queue_pending": 5,
                "oldest_untaken_seconds": 9.0,
                "condemned_sessions": 2,
                "condemned_sessions_alive": 1,
                "parked_requests": 6,
                'orphan_sessions{kind="unexplained"}': 3,
                'gate_rate{location="europe",provider="gameye"}': 40,
                'gate_rate{location="*",provider="gameye"}': 200,
                'gate_closed{location="*",provider="gameye"}': 1,
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
    for event in (attempted(), FellBack("europe", "us-east", "throttled"), SURVEYED):
        metrics.observe(event)
    found: dict[str, set[str]] = {}
    for family in parse_plain(text(registry)):
        if family.name.startswith("allocator_"):
            name = family.name.removeprefix("allocator_") + ("_total" if family.type == "counter" else "")
            found[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert {name: labels for name, labels in found.items() if name in CONTRACT} == CONTRACT
    for name, labels in found.items():
        (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `allocator_{name}` |")]
        assert set(row.split(" | ")[2].replace("`", "").split()) == labels, name


def test_the_page_of_metrics_is_what_the_code_says() -> None:
    assert PAGE.read_text() == describe.table(), "python -m allocator.telemetry.describe > deploy/docs/metrics.md"


def test_what_can_be_known_beforehand_stands_at_nought(metrics: Metrics, registry: CollectorRegistry) -> None:
    found = values(registry)
    assert [found[f'requests_received_total{{priority="{each}"}}'] for each in ("high", "normal", "low")] == [0, 0, 0]
    for outcome in Outcome:
        assert found[f'attempts_total{{location="europe",outcome="{outcome}",provider="gameye"}}'] == 0
    for state, code in (("allocated", ""), ("failed", "rejected"), ("expired", "no_capacity"), ("expired", "deadline")):
        assert found[f'requests_finished_total{{code="{code}",state="{state}"}}'] == 0
        assert found[f'request_duration_seconds_count{{state="{state}"}}'] == 0
    for location in ("europe", "*"):
        for cause in Cause:
            assert found[f'gate_closings_total{{cause="{cause}",location="{location}",provider="gameye"}}'] == 0
    assert found['rates_lowered_total{location="europe",provider="gameye"}'] == 0
    for stage in ("queue", "gate", "provider", "commit"):
        assert found[f'stage_duration_seconds_count{{stage="{stage}"}}'] == 0
    for kind in ("connection", "timeout", "pool", "loading", "readonly", "out_of_memory"):
        assert found[f'redis_errors_total{{kind="{kind}"}}'] == 0
    for region in ("europe", "us-east"):
        assert found[f'gate_wait_seconds_count{{region="{region}"}}'] == 0
    for hit in ("true", "false"):
        assert found[f'first_choice_total{{hit="{hit}"}}'] == 0
    for name in ("lease_lost_total", "redeliveries_total", "requests_parked_total", "faults_total", "workers_ready"):
        assert found[name] == 0
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
    assert after['gate_closings_total{cause="full",location="other",provider="gameye"}'] == 1000


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
