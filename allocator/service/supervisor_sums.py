"""The metrics of all worker processes of one supervisor, added up into those of one.

In: the families that each process told last, and which process is gone. Out: a collector for the admin address.
Promises: a counter and a histogram never fall, whichever process ends: what one had counted is kept. A gauge of what
a process has is summed; one of what the fleet has, which every process sees alike, is the highest that any of them saw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from allocator.service.supervisor_report import Told, families_of

COUNTED = frozenset({"counter", "histogram"})

SUMMED = frozenset(
    {
        "allocator_requests_in_progress",
        "allocator_workers_ready",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
    }
)
"""Gauges of what each process has. Every other gauge is of the fleet, the settings or the version: see `OURS`."""

OURS = frozenset({"process_max_fds", "process_start_time_seconds"})
"""Gauges that only make sense of one process: the supervisor, which is what the reader has before it."""

LINES_A_SLICE = 500

Values = Mapping[str, float]


class Added(Metric):
    """A family of all processes."""

    def __init__(self, told: Told, values: Values, exemplars: Mapping[str, str]) -> None:
        super().__init__(told.name, told.documentation, told.kind)
        self.values = values
        self.exemplars = exemplars

    def slices(self, *, exemplars: bool) -> Iterator[str]:
        """Its lines, some at a time."""
        behind = self.exemplars if exemplars else {}
        lines = [f"{head} {value}{behind.get(head, '')}\n" for head, value in self.values.items()]
        for start in range(0, len(lines), LINES_A_SLICE):
            yield "".join(lines[start : start + LINES_A_SLICE])


class Sums(Collector):
    """What all processes told, the supervisor's own memory and time included."""

    def __init__(self) -> None:
        self._living: dict[int, Mapping[str, Told]] = {}
        self._gone: dict[str, Told] = {}
        self._highest: dict[str, float] = {}
        self._own = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._own)

    def hear(self, number: int, families: Mapping[str, Told]) -> None:
        """Take this for what process `number` has now."""
        self._living[number] = families

    def lose(self, number: int) -> None:
        """Keep what a process had counted; what it had is gone with it."""
        for name, told in self._living.pop(number, {}).items():
            if told.kind in COUNTED:
                before = self._gone.get(name)
                values = told.values if before is None else _added([before.values, told.values])
                self._gone[name] = Told(name, told.kind, told.documentation, values)

    def collect(self) -> Iterable[Metric]:
        """Every family of any process, as it is told now."""
        everyone = [families_of(self._own), *self._living.values(), self._gone]
        every: dict[str, list[Told]] = {}
        for families in everyone:
            for name, told in families.items():
                every.setdefault(name, []).append(told)
        for parts in every.values():
            exemplars = {head: text for told in parts for head, text in told.exemplars.items()}
            yield Added(parts[0], self._together(parts), exemplars)

    def _together(self, parts: Sequence[Told]) -> Values:
        first, values = parts[0], [told.values for told in parts]
        if first.kind in COUNTED:
            return self._never_less(_added(values))
        if first.name in SUMMED:
            return _added(values)
        if first.name in OURS:
            return first.values
        return {head: max(numbers) for head, numbers in _by_head(values).items()}

    def _never_less(self, values: Values) -> Values:
        """A sum of fractions depends on the order it is made in; a hair less would be read as a restart."""
        self._highest.update({head: max(value, self._highest.get(head, value)) for head, value in values.items()})
        return {head: self._highest[head] for head in values}


def _added(parts: Sequence[Values]) -> Values:
    return {head: math.fsum(numbers) for head, numbers in _by_head(parts).items()}


def _by_head(parts: Sequence[Values]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for values in parts:
        for head, value in values.items():
            found.setdefault(head, []).append(value)
    return found
