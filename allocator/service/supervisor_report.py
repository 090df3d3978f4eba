"""What a worker under a supervisor tells it, as bytes on a socket: how it fares, then its metrics.

In: two answers, paths and a registry on one side, bytes on the other. Out: a `Report`. The bytes are a line of JSON and
the OpenMetrics text, whose last line ends the report. Promises: a sample is known by all that stands before its number,
so no label is ever taken apart. How reports are added up is `supervisor_sums`'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from allocator.telemetry.exposition import OPENMETRICS, in_turns, slices

END = b"# EOF\n"
"""The last line of the text, which therefore ends a report."""

REPORT_BYTES_MAX = 64 * 1024 * 1024
"""Ten times what a thousand regions come to."""

_HELP, _TYPE = "# HELP ", "# TYPE "
_EXEMPLAR = re.compile(r' # \{trace_id="[0-9a-f]{32}"\} \S+ \S+$')
"""Nothing that a label holds looks like it: there a quotation mark has a backslash before it, and more follows."""


@dataclass(frozen=True, slots=True)
class Told:
    """A family of metrics: its values by what stands before them in the text, name and labels.

    `exemplars` by the same, each as it stands behind its value.
    """

    name: str
    kind: str
    documentation: str
    values: Mapping[str, float]
    exemplars: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """How a worker fares. `unready` and `unwell` are None where all is well, else why not.

    `hooks` are the paths at the admin address by which it is told things from outside.
    """

    unready: str | None
    unwell: str | None
    families: Mapping[str, Told]
    hooks: tuple[str, ...] = ()


async def write_report(
    unready: str | None, unwell: str | None, registry: CollectorRegistry, hooks: Iterable[str] = ()
) -> bytes:
    """Write it down, with a turn of the loop for everyone else every millisecond or so."""
    head = json.dumps({"unready": unready, "unwell": unwell, "hooks": list(hooks)})
    return f"{head}\n{''.join([text async for text in in_turns(registry, OPENMETRICS)])}".encode()


def read_report(written: bytes) -> Report:
    """Read what `write_report` wrote."""
    head, _, text = written.decode().partition("\n")
    said = json.loads(head)
    return Report(said["unready"], said["unwell"], _families(text), tuple(said["hooks"]))


def families_of(registry: CollectorRegistry) -> Mapping[str, Told]:
    """The families of a registry of this process."""
    return _families("".join(slices(registry, OPENMETRICS)))


def _families(text: str) -> dict[str, Told]:
    return {family.name: family for family in _read(text)}


def _read(text: str) -> Iterator[Told]:
    documentation, values, exemplars = "", dict[str, float](), dict[str, str]()
    # Not `splitlines`: it ends a line at characters that a label may hold.
    for line in text.split("\n"):
        if line.startswith(_HELP):
            documentation = line.removeprefix(_HELP).partition(" ")[2]
        elif line.startswith(_TYPE):
            name, _, kind = line.removeprefix(_TYPE).partition(" ")
            values, exemplars = {}, {}
            yield Told(name, kind, documentation, values, exemplars)
        elif line and not line.startswith("#"):
            found = _EXEMPLAR.search(line)
            head, _, number = (line[: found.start()] if found else line).rpartition(" ")
            values[head] = float(number)
            if found:
                exemplars[head] = found[0]
