"""The page of metrics for operators, made from the code.

    python -m allocator.telemetry.describe > deploy/docs/metrics.md

In: nothing. Out: Markdown. What a metric is called, its labels and what it says come from `families`, which values a
label takes from `labels`; the words about how to read them stand here.
"""

from __future__ import annotations

import sys
import time

from prometheus_client import CollectorRegistry

from allocator.telemetry.cells import Family, HistogramFamily, SampledFamily
from allocator.telemetry.families import HTTP, SUPERVISOR, Families
from allocator.telemetry.labels import LABEL_VALUES

_HEAD = """\
# Metrics

`GET /metrics` on the admin address, as Prometheus text or OpenMetrics (which adds exemplars: the trace id of the last
traced request in each bucket). This page is made from the code, and a test holds it to that.

**Kinds.** A *counter* counts since the process began; its name ends in `_total`. A *histogram* has `_bucket`, `_sum`,
`_count`. A *gauge* is of this process: sum it over instances. A *fleet gauge* is of the whole fleet: **one worker at a
time samples it for all** (every 2 s, by a lease of 6 s in Redis), and the others do not tell it at all. Read it by
`max` or `max by (...)`, never by instance: which worker samples may change, and while Redis cannot be asked nobody
tells. `max_over_time(...[1m])` holds the last value over such a gap, which an alert with a `for:` wants. Behind
`--processes` one address tells the sums of all processes.

**At 0 from the start**: every counter and histogram whose label values are known beforehand: priorities, states with
their codes, the outcomes and causes of every configured destination, configured regions. `fallbacks_total`,
`provider_request_duration_seconds` and codes that are rare at their end appear with their first event. A region or
location that the settings do not name counts as `other`; the location `*` is a provider's whole account.

| metric | kind | labels | says |
|---|---|---|---|
"""

_LABELS_HEAD = """
## Label values

| label | values |
|---|---|
"""

_TAIL = """
`region`, `from_region`, `to_region`, `provider` and `location` are those of the settings. `status` is the HTTP status
of the answer, `none` where none came, `other` where it is none of HTTP. `code` of `requests_finished_total` is empty
where there is none. An objective leaves out the ends that the caller brought about: `state` `cancelled`, and `code`
`invalid_request`, `rejected`, `id_conflict`; refusals are no ends, and are not among them.

The process itself is told by `process_*` and `python_*`.
"""


def table() -> str:
    """The whole page."""
    families = Families(CollectorRegistry(), time.monotonic)
    rows = [_row(family.name, _kind(family), family.label_names, family.documentation) for family in families.every]
    rows.append(_row(SUPERVISOR[0], "counter", (), f"{SUPERVISOR[1]} Only behind `--processes`."))
    rows.append(_row(HTTP[0], "counter", HTTP[2], f"{HTTP[1]} Only where the table `[api]` is."))
    values = [f"| `{label}` | {' '.join(f'`{each}`' for each in LABEL_VALUES[label])} |\n" for label in LABEL_VALUES]
    return f"{_HEAD}{''.join(rows)}{_LABELS_HEAD}{''.join(values)}{_TAIL}"


def _row(name: str, kind: str, labels: tuple[str, ...], documentation: str) -> str:
    told = f"{name}_total" if kind == "counter" else name
    return f"| `{told}` | {kind} | {' '.join(f'`{label}`' for label in labels)} | {documentation} |\n"


def _kind(family: Family) -> str:
    match family:
        case SampledFamily():
            return "fleet gauge"
        case HistogramFamily():
            return "histogram"
        case _:
            return family.kind


if __name__ == "__main__":
    sys.stdout.write(table())
