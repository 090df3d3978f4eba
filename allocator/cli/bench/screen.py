"""A report for a person: a table, a plot, and what to make of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from allocator.cli.bench.plan import Backlog, Load, OpenLoop, Setup, Side, Waiting
from allocator.cli.bench.report import Report
from allocator.cli.bench.rounds import BEHIND_MAX, Round

_ROWS = (
    ("allocations a second", "allocations_per_second", "{:,.0f}"),
    ("worker CPU ms", "worker_cpu_ms", "{:.3f}"),
    ("Redis CPU ms", "redis_cpu_ms", "{:.3f}"),
    ("provider CPU ms", "provider_cpu_ms", "{:.3f}"),
    ("bench CPU ms", "bench_cpu_ms", "{:.3f}"),
    ("Redis commands", "redis_commands", "{:.2f}"),
    ("  of them scripts", "redis_scripts", "{:.3f}"),
    ("largest worker MB", "worker_peak_mb", "{:.0f}"),
)
_LATENCY_ROWS = (
    ("added ms p50/p99/p99.9", "added_ms"),
    ("  less the calls", "less_calls_ms"),
    ("  sent late by us", "sent_late_ms"),
)
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
BUSY_CORES = 0.3
"""What others may use of the machine before a report says that its figures are not to be trusted."""


def show(report: Report, console: Console) -> None:
    """Print it."""
    console.print(Group(_table(report), *_plots(report), *_notes(report)))


def said(load: Load, setup: Setup) -> str:
    """What is measured, in a line."""
    processes = f"{setup.processes} process" + ("es" if setup.processes > 1 else "")
    provider = "simulated Gameye" if setup.simulator else "stub provider"
    met = f"{processes}, {setup.in_flight} calls in flight each, {provider} of {setup.provider_latency_ms:g} ms"
    match load:
        case OpenLoop():
            return f"{load.rate:g} matches a second for {load.seconds:g} s ({load.arrivals}), {met}"
        case Backlog():
            return f"a backlog of {load.matches:,} matches, {met}"
        case Waiting():
            return f"{load.waiting:,} waiting at every moment, {load.matches:,} served, {met}"


def progress(each: Round) -> str:
    """One round in a line."""
    cpu = "" if each.worker_cpu_ms is None else f", {each.worker_cpu_ms:.3f} ms of worker CPU each"
    added = "" if each.added_ms is None else f", added p50 {each.added_ms.p50:.2f} p99 {each.added_ms.p99:.2f} ms"
    return f"{each.side.value:<9}  {each.allocations_per_second:>8,.0f}/s{cpu}{added}"


def _table(report: Report) -> Table:
    sides = [side for side in Side if report.of(side)]
    compared = len(sides) > 1
    rounds = max(len(report.of(side)) for side in sides)
    title = (
        said(report.load, report.setup)
        + (f"; medians of {rounds} rounds" if rounds > 1 else "")
        + "; costs are of one allocation"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for side in sides:
        table.add_column("bare loop" if side is Side.BARE else side.value, justify="right", no_wrap=True)
    medians = {side: report.medians(side) for side in sides}
    ratios = report.ratios() if compared else {}
    if compared:
        table.add_column("ratio", justify="right", no_wrap=True)
        table.add_column("pairs", justify="right", no_wrap=True)
    for label, name, form in _ROWS:
        cells = [_cell(medians[side][name], form) for side in sides]
        if compared:
            cells += [_cell(ratios[name]["median"], "{:.2f}"), _span(ratios[name]["pairs"])]
        table.add_row(label, *cells)
    for label, name in _LATENCY_ROWS if isinstance(report.load, OpenLoop) else ():
        table.add_row(label, *(_latency(medians[side][name]) for side in sides))
    return table


def _plots(report: Report) -> list[RenderableType]:
    """Of each side's last round: the added latency by its length, or the answers over time."""
    shown: list[RenderableType] = []
    for side in Side:
        for each in report.of(side)[-1:]:
            shown.append(Text(f"\n{'bare loop' if side is Side.BARE else side.value}, last round", style="bold"))
            shown.append(_histogram(each.added_all_ms) if each.added_all_ms else _over_time(each))
    return shown


def _histogram(ordered: Sequence[float]) -> Text:
    """Bars of how many matches had so many milliseconds added, in steps of half an octave."""
    steps = [max(-4, math.ceil(2 * math.log2(max(value, 0.01)))) for value in ordered]
    lowest, highest = steps[0], steps[-1]
    lines = []
    for step in range(lowest, highest + 1):
        count = steps.count(step)
        bar = "█" * round(_WIDTH * count / len(steps)) or ("▏" if count else "")
        lines.append(f"  up to {2 ** (step / 2):>8.2f} ms  {count:>7,}  {bar}")
    return Text("\n".join(lines))


def _over_time(each: Round) -> Text:
    most = max(each.answered_in_slices)
    bars = "".join(_BARS[math.ceil(count / most * (len(_BARS) - 1))] for count in each.answered_in_slices)
    return Text(f"  answers over time  {bars}  at most {most:,} in a fortieth")


def _notes(report: Report) -> list[RenderableType]:
    notes = []
    if not report.machine["pinned"]:
        notes.append("nothing is pinned to cores: read the CPU figures, and others only in their ratio")
    busy = max(each.others_cores or 0.0 for each in report.rounds)
    if busy > BUSY_CORES:
        notes.append(f"others kept up to {busy:.1f} cores busy meanwhile: read worker CPU rather than rate and latency")
    notes += [
        f"{side.value} fell behind by {behind:.0%}: these are the latencies of a queue that grows; take a lower --rate"
        for side in Side
        if (behind := max((each.falls_behind for each in report.of(side)), default=0.0)) > BEHIND_MAX
    ]
    notes += [
        f"{each.side.value}: {each.unanswered} matches without an answer, {each.ended_otherwise} not allocated"
        for each in report.rounds
        if each.unanswered or each.ended_otherwise
    ]
    return [Text(f"\n{note}", style="yellow") for note in notes]


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _span(values: Sequence[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return f"{known[0]:.2f}-{known[-1]:.2f}" if known else "-"


def _latency(medians: dict[str, Any] | None) -> str:
    return "-" if medians is None else "/".join(f"{medians[name]:.1f}" for name in ("p50", "p99", "p999"))
