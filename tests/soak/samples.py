"""What a soak measures every few seconds, and whether it grows: pure arithmetic over samples, and reading `/proc`.

In: samples, oldest first. Out: for each measure the median of the first and of the last third after the warm-up, and
whether the last is within the bound that is allowed over the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

SAMPLES_MIN = 6
"""Fewer make no thirds."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How much more the last third may have than the first: a share of it, and so much besides."""

    share: float
    more: float

    def allows(self, first: float, last: float) -> bool:
        return last <= first * (1 + self.share) + self.more

    def __str__(self) -> str:
        return f"+{self.share:.0%} +{self.more:g}"


RSS = Bound(0.10, 8.0)
"""An allocator of memory keeps what it once had; a leak of one request in ten would pass this in minutes."""
FDS = Bound(0.25, 16.0)
"""Connections to the provider come with a burst of take-overs and stay for half a minute."""
THREADS = Bound(0.0, 2.0)
BOUNDS: Mapping[str, Bound] = {
    "veteran rss MB": RSS,
    "veteran fds": FDS,
    "veteran threads": THREADS,
    "replaced rss MB": RSS,
    "replaced fds": FDS,
    "replaced threads": THREADS,
    "keys": Bound(0.15, 100.0),
    "keys without a lifetime": Bound(0.0, 150.0),
    "redis used MB": Bound(0.20, 4.0),
}
"""Without a lifetime is what is under way, besides a dozen streams and sets: as much as the load holds at a moment."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured at one moment; what could not be asked is left out."""

    at_seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One measure over the whole soak."""

    name: str
    first: float
    last: float
    highest: float
    bound: Bound

    @property
    def grows(self) -> bool:
        """Whether the last third has more than the bound allows over the first."""
        return not self.bound.allows(self.first, self.last)


def of_process(name: str, process_id: int) -> dict[str, float]:
    """Memory, descriptors and threads of a process; nothing where it is gone."""
    directory = Path("/proc") / str(process_id)
    try:
        lines = (directory / "status").read_text(encoding="ascii", errors="replace").splitlines()
        fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}
        return {
            f"{name} rss MB": int(fields["VmRSS"][0]) / 1024,
            f"{name} fds": float(len(list((directory / "fd").iterdir()))),
            f"{name} threads": float(fields["Threads"][0]),
        }
    except (OSError, KeyError, IndexError):
        return {}


def rows(samples: Sequence[Sample], warm_up_seconds: float) -> list[Row]:
    """Each measure with enough samples after the warm-up, in the order of `BOUNDS`."""
    warm = [sample for sample in samples if sample.at_seconds >= warm_up_seconds]
    found = []
    for name, bound in BOUNDS.items():
        values = [sample.values[name] for sample in warm if name in sample.values]
        if len(values) < SAMPLES_MIN:
            continue
        third = len(values) // 3
        found.append(Row(name, median(values[:third]), median(values[-third:]), max(values), bound))
    return found


def table(found: Sequence[Row]) -> str:
    """The rows for a person to read."""
    head = f"{'measure':<26}{'first third':>13}{'last third':>13}{'highest':>11}  {'bound':<12} verdict"
    lines = [
        f"{row.name:<26}{row.first:>13.1f}{row.last:>13.1f}{row.highest:>11.1f}  {row.bound!s:<12} "
        f"{'grows' if row.grows else 'flat'}"
        for row in found
    ]
    return "\n".join([head, *lines])
