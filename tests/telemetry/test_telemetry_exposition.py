"""How the metrics are written down: in which text, and in slices that never stall the loop."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from allocator.contract.allocation import Outcome
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import Attempted, Leg, Received
from allocator.telemetry.exposition import OPENMETRICS, PLAIN, content_type, slices
from allocator.telemetry.metrics import Metrics

LEG = Leg("m-1", "1-0", Priority.LOW)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, "1.2.3")


def test_an_observation_on_a_bound_belongs_to_its_bucket(metrics: Metrics, registry: CollectorRegistry) -> None:
    for seconds in (0.05, 0.0501, 1e6):
        metrics.observe(Received(LEG, seconds))

    def bucket(bound: str) -> float | None:
        labels = {"stage": "queue", "le": bound}
        return registry.get_sample_value("allocator_stage_duration_seconds_bucket", labels)

    assert [bucket(bound) for bound in ("0.025", "0.05", "0.1", "60.0", "+Inf")] == [0, 1, 2, 2, 3]


def test_this_process_is_told_of_too(metrics: Metrics, registry: CollectorRegistry) -> None:
    names = {family.name for family in parse_plain("".join(slices(registry, PLAIN)))}
    assert {"python_info", "python_gc_objects_collected"} <= names


@pytest.mark.parametrize(
    ("accept", "content"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", OPENMETRICS),
        ("application/openmetrics-text; q=0.0, text/plain", PLAIN),
    ],
)
def test_openmetrics_is_given_to_who_asks_for_it(accept: str, content: str) -> None:
    assert content_type(accept) == content


def test_many_destinations_are_written_in_slices_and_cells_that_come_meanwhile_do_no_harm(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    regions = [f"r-{number}" for number in range(200)]
    metrics.expect([Destination("gameye", region) for region in regions], regions)
    pieces = []
    for number, piece in enumerate(slices(registry, PLAIN)):
        pieces.append(piece)
        destination = Destination("gameye", regions[number % 200])
        metrics.observe(Attempted(LEG, "europe", destination, Outcome.CREATED, 200 + number % 300, 0.01, 0.2, 0.0))
    assert max(piece.count("\n") for piece in pieces) < 1000
    assert list(parse_plain("".join(pieces)))
