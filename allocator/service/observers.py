"""Who listens to the engine of one process: metrics, log, and traces where the settings ask for them.

In: settings. Out: `Observers` on a registry of their own. OpenTelemetry is imported only where traces are on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from allocator import __version__
from allocator.contract.partitions import Partitions
from allocator.engine.observer import Event, Leg, Observer
from allocator.service.settings import Settings
from allocator.telemetry.logging import Log
from allocator.telemetry.metrics import Metrics
from allocator.telemetry.trace_ids import recorded_by_caller

if TYPE_CHECKING:
    from allocator.telemetry.spans_out import SpansOut


Listener = tuple[Observer, frozenset[type]]
"""Who is told of events, and of which kinds not."""


class TracesUnavailable(Exception):  # noqa: N818 - what the settings ask for
    """Traces are asked for and what they need is not installed."""


@dataclass(frozen=True, slots=True)
class Observers:
    """Those of one process; `observe` tells all of them."""

    registry: CollectorRegistry
    metrics: Metrics
    log: Log
    spans: SpansOut | None
    observe: Observer

    async def close(self) -> None:
        """Tell what was held back, and send the last spans."""
        self.log.flush()
        if self.spans is not None:
            await self.spans.close()


def build_observers(settings: Settings) -> Observers:
    """Build them. Raises TracesUnavailable."""
    registry = CollectorRegistry()
    spans = _spans_out(settings) if settings.telemetry.traces == "otlp" else None
    trace_of: Callable[[Leg], str] = recorded_by_caller if spans is None else spans.tracing.trace_of
    metrics = Metrics(registry, version=__version__, trace_of=trace_of)
    log = Log(match_lines=settings.telemetry.match_lines == "on", trace_of=trace_of)
    listening: list[Listener] = [(metrics.observe, frozenset()), (log.observe, log.deaf_to)]
    if spans is not None:
        spans.tracing.left_out = metrics.count_left_out
        listening.append((spans.tracing.observe, frozenset()))
    return Observers(registry, metrics, log, spans, _fan_out(listening))


def _spans_out(settings: Settings) -> SpansOut:
    try:
        from allocator.telemetry.spans_out import SpansOut  # noqa: PLC0415 - an extra, and half a second to import
        from allocator.telemetry.tracing import Endpoint  # noqa: PLC0415 - as above
    except ImportError as error:
        raise TracesUnavailable(
            f"telemetry.traces is 'otlp', which needs the extra `otel` ({error.name} is missing): "
            "pip install '.[otel]' where it was installed from, or set telemetry.traces to \"off\""
        ) from error
    endpoints: dict[str, Endpoint] = {}
    if settings.gameye is not None:
        endpoints["gameye"] = Endpoint(settings.gameye.base_url, "POST /session", "GET /session/{id}")
    if settings.edgegap is not None:
        endpoints["edgegap"] = Endpoint(settings.edgegap.base_url, "POST /v2/deployments", "GET /v1/deployments")
    return SpansOut(
        deployment=settings.deployment,
        partitions=Partitions(settings.namespace, settings.partitions),
        instance=f"{socket.gethostname()}-{os.getpid()}",
        endpoints=endpoints,
    )


def _fan_out(listening: Sequence[Listener]) -> Observer:
    by_kind: dict[type, list[Observer]] = {}

    def observe(event: Event) -> None:
        kind = type(event)
        told = by_kind.get(kind)
        if told is None:
            told = by_kind[kind] = [each for each, deaf_to in listening if kind not in deaf_to]
        for each in told:
            each(event)

    return observe
