"""What the tests of metrics share: events of one match, a clock, and the figures as a scrape reads them."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
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
    Event,
    Finished,
    Leg,
    Surveyed,
)
from allocator.gate.gate import Cause, LimitState
from allocator.telemetry.exposition import PLAIN, slices
from allocator.telemetry.metrics import Metrics

EUROPE = Destination("gameye", "europe")
ACCOUNT = Destination("gameye", "*")
ACCOUNT_SHUT = LimitState(200.0, 3.0, Cause.CREDENTIAL)
LEG = Leg("m-1", "1700000000000-0", Priority.HIGH)
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
Values = dict[str, float]
parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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
    return Attempted(LEG, region, destination, Outcome.CREATED, status, 0.02, 0.3, 7.0, message)


def finished(
    state: State = State.ALLOCATED, code: Code | None = None, *, total: float = 0.5, leg: Leg = LEG
) -> Finished:
    first = True if state is State.ALLOCATED else None
    return Finished(leg, state, code, total, 0.3, 0.02, 0.004, first, total)


SURVEY = Survey(
    held=3,
    condemned=2,
    depths={Priority.HIGH: Depth(1, 0, 0.5), Priority.NORMAL: Depth(7, 4, 9.0), Priority.LOW: Depth(0, 1, 0.0)},
    parked=6,
)
SURVEYED = Surveyed(
    SURVEY,
    good_for_seconds=5.0,
    gates={EUROPE: LimitState(40.0), ACCOUNT: ACCOUNT_SHUT, Destination("gameye", "free"): LimitState(None)},
    orphans={"unexplained": 3, "superseded": 0},
    condemned_alive=1,
)
