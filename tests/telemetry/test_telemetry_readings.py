"""What is told as it is at the moment of a scrape: the fleet's figures, gauges, exemplars, and both texts of them."""

import asyncio
import time
from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from allocator.contract.allocation import Outcome, State
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import (
    Attempted,
    Leg,
    Received,
    Surveyed,
)
from allocator.gate.gate import LimitState
from allocator.telemetry.exposition import OPENMETRICS
from allocator.telemetry.metrics import Metrics
from tests.telemetry.readings import (
    EUROPE,
    LEG,
    SURVEY,
    SURVEYED,
    TRACE_ID,
    Clock,
    attempted,
    finished,
    parse_openmetrics,
    text,
    values,
)


def test_what_is_the_fleets_is_told_while_it_holds_and_by_nobody_after(
    metrics: Metrics, registry: CollectorRegistry, clock: Clock
) -> None:
    fleets = {"queue_depth", "queue_pending", "oldest_untaken_seconds", "parked_requests", "condemned_sessions"}
    fleets |= {"condemned_sessions_alive", "orphan_sessions", "gate_rate", "gate_closed"}

    def told() -> set[str]:
        return {name.partition("{")[0] for name in values(registry)} & fleets

    assert told() == set()
    metrics.observe(SURVEYED)
    clock.now += 4.9
    assert told() == fleets
    clock.now += 0.2
    assert told() == set()
    metrics.observe(Surveyed(SURVEY, good_for_seconds=5.0))
    assert told() == fleets - {"condemned_sessions_alive", "orphan_sessions", "gate_rate", "gate_closed"}


def test_a_region_that_is_gone_from_the_sample_is_gone_from_the_text(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.observe(SURVEYED)
    metrics.observe(Surveyed(SURVEY, good_for_seconds=5.0, gates={EUROPE: LimitState(20.0)}))
    rates = {name: value for name, value in values(registry).items() if name.startswith("gate_rate")}
    assert rates == {'gate_rate{location="europe",provider="gameye"}': 20}


def test_requests_in_progress_and_readiness_are_told_as_they_are(metrics: Metrics, registry: CollectorRegistry) -> None:
    held = [1, 2, 3]
    metrics.follow_progress(State.ALLOCATING, lambda: len(held))
    metrics.follow_readiness(lambda: bool(held))
    assert values(registry)['requests_in_progress{state="allocating"}'] == 3
    assert values(registry)["workers_ready"] == 1
    held.clear()
    assert values(registry)['requests_in_progress{state="allocating"}'] == 0
    assert values(registry)["workers_ready"] == 0


@pytest.mark.parametrize(("flags", "is_told"), [("01", True), ("00", False)])
def test_an_exemplar_leads_to_the_trace_that_the_caller_records(
    metrics: Metrics, registry: CollectorRegistry, flags: str, *, is_told: bool
) -> None:
    leg = Leg("m-1", "1-0", Priority.LOW, f"00-{TRACE_ID}-00f067aa0ba902b7-{flags}")
    metrics.observe(finished(leg=leg, total=0.6))
    metrics.observe(Attempted(leg, "europe", EUROPE, Outcome.CREATED, 201, 0.0, 0.3, 7.0))
    exemplars = {
        (sample.name.removeprefix("allocator_"), sample.labels["le"]): sample.exemplar
        for family in parse_openmetrics(text(registry, OPENMETRICS))
        for sample in family.samples
        if sample.exemplar is not None
    }
    where = {("request_duration_seconds_bucket", "0.75"), ("added_latency_seconds_bucket", "0.5")}
    where |= {("provider_request_duration_seconds_bucket", "0.3")}
    assert set(exemplars) == (where if is_told else set())
    assert all(exemplar.labels == {"trace_id": TRACE_ID} for exemplar in exemplars.values())
    assert TRACE_ID not in text(registry), "the plain text knows none"


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
    for event in (Received(LEG, 0.05), attempted(), attempted(status=None), finished(), SURVEYED):
        metrics.observe(event)
    metrics.expect([Destination("gameye", 'a"b\\c\nd')], ['a"b\\c\nd'])

    def ours(families: Iterable[Metric]) -> dict[str, Metric]:
        # The plain text has no type `info`: there it is a gauge of the whole name.
        named = {family.name.removesuffix("_info"): family for family in families}
        return {name: family for name, family in named.items() if name.startswith("allocator_")}

    plain = ours(parse_plain(text(registry)))
    assert plain == ours(parse_plain(generate_latest(registry).decode()))
    assert ours(parse_openmetrics(text(registry, OPENMETRICS))).keys() == plain.keys()
