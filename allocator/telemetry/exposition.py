"""A registry as text, in slices, so that a scrape of many regions never holds the event loop for long.

In: a registry, and what the reader accepts. Out: the Prometheus text format 0.0.4, or OpenMetrics 1.0 where it is asked
for. Whoever sends it gives the loop a turn between the slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as plain
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from allocator.telemetry.cells import Drawn

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_END = "# EOF\n"
_open_text: Callable[[Collector], bytes] = openmetrics.generate_latest


class _One(Collector):
    """A registry of one family, which is what prometheus_client's writers take."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        yield self._metric


def content_type(accept: str) -> str:
    """The format that a reader with this `Accept` gets."""
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        if media == "application/openmetrics-text" and not _refused(parameters):
            return OPENMETRICS
    return PLAIN


def slices(registry: CollectorRegistry, content: str) -> Iterator[str]:
    """The text in pieces, none of which takes more than about a millisecond to make."""
    is_open = content == OPENMETRICS
    for metric in registry.collect():
        if isinstance(metric, Drawn):
            name = f"{metric.name}_total" if metric.type == "counter" and not is_open else metric.name
            yield f"# HELP {name} {metric.documentation}\n# TYPE {name} {metric.type}\n"
            yield from metric.slices()
        elif is_open:
            yield _open_text(_One(metric)).decode().removesuffix(_END)
        else:
            yield plain.generate_latest(_One(metric)).decode()
    if is_open:
        yield _END


def _refused(parameters: Iterable[str]) -> bool:
    return any(each.startswith("q=") and each.removeprefix("q=").strip("0.") == "" for each in parameters)
