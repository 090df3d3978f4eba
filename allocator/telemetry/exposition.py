"""A registry as text, in slices, so that a scrape of many regions never holds the event loop for long.

In: a registry, and what the reader accepts. Out: the Prometheus text format 0.0.4, or OpenMetrics 1.0 where it is asked
for, at once or with turns of the loop in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as plain
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
STRETCH_SECONDS = 0.001
"""So long a scrape may hold the event loop before everyone else has a turn."""

_END = "# EOF\n"
_open_text: Callable[[Collector], bytes] = openmetrics.generate_latest


@runtime_checkable
class Sliced(Protocol):
    """A family that writes its own samples, such as `cells.Drawn`."""

    def slices(self, *, exemplars: bool) -> Iterator[str]:
        """The samples as lines, some at a time; `exemplars`, where the format knows them."""
        ...


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
        if isinstance(metric, Sliced):
            name, kind = (metric.name, metric.type) if is_open else _plainly(metric.name, metric.type)
            yield f"# HELP {name} {metric.documentation}\n# TYPE {name} {kind}\n"
            yield from metric.slices(exemplars=is_open)
        elif is_open:
            yield _open_text(_One(metric)).decode().removesuffix(_END)
        else:
            yield plain.generate_latest(_One(metric)).decode()
    if is_open:
        yield _END


async def in_turns(registry: CollectorRegistry, content: str) -> AsyncIterator[str]:
    """The text in pieces; before the next is made, everyone else has had a turn of the loop."""
    clock, pieces = asyncio.get_running_loop().time, []
    since = clock()
    for piece in slices(registry, content):
        pieces.append(piece)
        if clock() - since > STRETCH_SECONDS:
            yield "".join(pieces)
            pieces.clear()
            await asyncio.sleep(0)
            since = clock()
    yield "".join(pieces)


def _plainly(name: str, kind: str) -> tuple[str, str]:
    """The name and kind by which the plain format heads a family."""
    match kind:
        case "counter":
            return f"{name}_total", kind
        case "info":
            return f"{name}_info", "gauge"
        case "unknown":
            return name, "untyped"
        case _:
            return name, kind


def _refused(parameters: Iterable[str]) -> bool:
    return any(each.startswith("q=") and each.removeprefix("q=").strip("0.") == "" for each in parameters)
