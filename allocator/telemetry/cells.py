"""Counters, histograms and followed gauges that cost little to move and next to nothing to read.

In: increments and observations, from the one thread of the event loop. Out: families as prometheus_client collects
them, and the same as lines of text, with exemplars where the format knows them. It promises that no count is ever
torn, since only that thread counts and reads; prometheus_client's own guard each number with a lock and search buckets
one by one, which cost four times as much (measured: 17 us against 4 for the 12 numbers of an allocation).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

CELLS_A_SLICE = 32
"""So many cells are written at once: a fraction of a millisecond."""


class Drawn(Metric):
    """A family at this moment: its samples for who asks for them, its lines for who only writes them out."""

    def __init__(self, family: Family) -> None:
        self.family = family
        super().__init__(family.name, family.documentation, family.kind)

    @property
    def samples(self) -> list[Sample]:
        """Every sample, made when asked for."""
        return [sample for cell in self.family.cells for sample in cell.samples()]

    @samples.setter
    def samples(self, value: list[Sample]) -> None:
        """The base empties its list at the start; there is none here."""

    def slices(self, *, exemplars: bool) -> Iterator[str]:
        """The same samples as lines, some cells at a time; cells that come meanwhile are told the next time."""
        cells = self.family.cells
        for start in range(0, len(cells), CELLS_A_SLICE):
            yield "".join(cell.lines(exemplars=exemplars) for cell in cells[start : start + CELLS_A_SLICE])


class Count:
    """One counter; whoever counts adds to `value`."""

    __slots__ = ("_head", "_labels", "_name", "value")

    def __init__(self, name: str, labels: dict[str, str]) -> None:
        self.value = 0
        self._name = f"{name}_total"
        self._labels = labels
        self._head = _head(self._name, labels)

    def samples(self) -> list[Sample]:
        """Its one sample."""
        return [Sample(self._name, self._labels, float(self.value))]

    def lines(self, *, exemplars: bool) -> str:
        """Its one line."""
        del exemplars
        return f"{self._head}{self.value}\n"


class Spread:
    """One histogram: how many observations came up to each bound, and their sum; the last traced one of each."""

    __slots__ = ("_bounds", "_exemplars", "_heads", "_labels", "_name", "counts", "total")

    def __init__(self, name: str, labels: dict[str, str], bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self._name = name
        self._labels = labels
        self._bounds = bounds
        self._heads: list[str] = []
        self._exemplars: dict[int, tuple[str, float, float]] = {}

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count one observation, in the first bucket whose bound is not below it; `trace_id` leads to its trace."""
        at = bisect_left(self._bounds, value)
        self.counts[at] += 1
        self.total += value
        if trace_id:
            self._exemplars[at] = (trace_id, value, time.time())

    def samples(self) -> list[Sample]:
        """Cumulative buckets, then count and sum."""
        found, below = [], 0
        for at, (bound, count) in enumerate(zip((*map(str, self._bounds), "+Inf"), self.counts, strict=True)):
            below += count
            labels = {**self._labels, "le": bound}
            exemplar = None
            if at in self._exemplars:
                trace_id, value, told_at = self._exemplars[at]
                exemplar = Exemplar({"trace_id": trace_id}, value, told_at)
            found.append(Sample(f"{self._name}_bucket", labels, float(below), exemplar=exemplar))
        found.append(Sample(f"{self._name}_count", self._labels, float(below)))
        found.append(Sample(f"{self._name}_sum", self._labels, self.total))
        return found

    def lines(self, *, exemplars: bool) -> str:
        """The samples as lines; what never changes of them is made once."""
        if not self._heads:
            self._heads = [_head(sample.name, sample.labels) for sample in self.samples()]
        numbers: list[float] = []
        below = 0
        for count in self.counts:
            below += count
            numbers.append(below)
        numbers += (below, self.total)
        lines = [f"{head}{number}\n" for head, number in zip(self._heads, numbers, strict=True)]
        if exemplars:
            for at, (trace_id, value, told_at) in self._exemplars.items():
                lines[at] = f'{lines[at][:-1]} # {{trace_id="{trace_id}"}} {value} {told_at:.3f}\n'
        return "".join(lines)


class Reading:
    """One gauge that is asked for its value whenever it is told."""

    __slots__ = ("_head", "_labels", "_name", "_read")

    def __init__(self, name: str, labels: dict[str, str], read: Callable[[], float]) -> None:
        self._name = name
        self._labels = labels
        self._read = read
        self._head = _head(name, labels)

    def samples(self) -> list[Sample]:
        """Its one sample."""
        return [Sample(self._name, self._labels, float(self._read()))]

    def lines(self, *, exemplars: bool) -> str:
        """Its one line."""
        del exemplars
        return f"{self._head}{self._read()}\n"


class Level:
    """One gauge as it was last told."""

    __slots__ = ("_head", "_labels", "_name", "_value")

    def __init__(self, name: str, labels: dict[str, str], value: float) -> None:
        self._name = name
        self._labels = labels
        self._value = value
        self._head = _head(name, labels)

    def samples(self) -> list[Sample]:
        """Its one sample."""
        return [Sample(self._name, self._labels, float(self._value))]

    def lines(self, *, exemplars: bool) -> str:
        """Its one line."""
        del exemplars
        return f"{self._head}{self._value}\n"


class Family(Collector):
    """The cells of one name, one for each set of label values."""

    kind: str

    def __init__(
        self, name: str, documentation: str, label_names: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.label_names = tuple(label_names)
        registry.register(self)

    @property
    @abstractmethod
    def cells(self) -> Sequence[Count | Spread | Reading | Level]:
        """Those there are now."""

    def collect(self) -> Iterable[Metric]:
        """The family as it is now."""
        yield Drawn(self)

    def _labels(self, values: Sequence[str]) -> dict[str, str]:
        return dict(zip(self.label_names, values, strict=True))


class CounterFamily(Family):
    """Counters of one name, which ends in `_total` where it is written."""

    kind = "counter"

    def __init__(
        self, name: str, documentation: str, label_names: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        super().__init__(name, documentation, label_names, registry=registry)
        self._cells: dict[tuple[str, ...], Count] = {}

    @property
    def cells(self) -> Sequence[Count]:
        """Those there are now."""
        return list(self._cells.values())

    def at(self, *values: str) -> Count:
        """The counter of these label values; it is told from now on."""
        cell = self._cells.get(values)
        if cell is None:
            cell = self._cells[values] = Count(self.name, self._labels(values))
        return cell


class GaugeFamily(Family):
    """Gauges of one name, each following something that knows its value."""

    kind = "gauge"

    def __init__(
        self, name: str, documentation: str, label_names: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        super().__init__(name, documentation, label_names, registry=registry)
        self._cells: dict[tuple[str, ...], Reading] = {}

    @property
    def cells(self) -> Sequence[Reading]:
        """Those there are now."""
        return list(self._cells.values())

    def follow(self, read: Callable[[], float], *values: str) -> None:
        """Tell what `read` says under these label values from now on."""
        self._cells[values] = Reading(self.name, self._labels(values), read)


class SampledFamily(Family):
    """Gauges of one name that are told together and hold for a while; after it there are none, rather than old ones."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str] = (),
        *,
        clock: Callable[[], float],
        registry: CollectorRegistry,
    ) -> None:
        super().__init__(name, documentation, label_names, registry=registry)
        self._clock = clock
        self._until = float("-inf")
        self._cells: list[Level] = []

    @property
    def cells(self) -> Sequence[Level]:
        """Those there are now."""
        return self._cells if self._clock() < self._until else ()

    def put(self, values: Mapping[tuple[str, ...], float], until: float) -> None:
        """Tell these, by their label values, and no others until then."""
        self._cells = [Level(self.name, self._labels(labels), value) for labels, value in values.items()]
        self._until = until


class HistogramFamily(Family):
    """Histograms of one name and the same upper bounds, the last of them `+Inf` without being named."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        documentation: str,
        label_names: Sequence[str] = (),
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        super().__init__(name, documentation, label_names, registry=registry)
        self._bounds = tuple(map(float, bounds))
        self._cells: dict[tuple[str, ...], Spread] = {}

    @property
    def cells(self) -> Sequence[Spread]:
        """Those there are now."""
        return list(self._cells.values())

    def at(self, *values: str) -> Spread:
        """The histogram of these label values; it is told from now on."""
        cell = self._cells.get(values)
        if cell is None:
            cell = self._cells[values] = Spread(self.name, self._labels(values), self._bounds)
        return cell


def _head(name: str, labels: dict[str, str]) -> str:
    if not labels:
        return f"{name} "
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
    return f"{name}{{{pairs}}} "


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
