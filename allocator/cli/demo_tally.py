"""What the demo counts, and how it shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from allocator.contract.allocation import Allocation, State


@dataclass(slots=True)
class Tally:
    """The answers so far."""

    wanted: int
    asked: int = 0
    unanswered: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    served_by: Counter[str] = field(default_factory=Counter)
    hosted_by: Counter[str] = field(default_factory=Counter)
    first_wish: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)

    def add(self, allocation: Allocation, seconds: float, *, wished: str) -> None:
        """Count one answer that came so long after it was asked for."""
        self.ends[allocation.state] += 1
        self.first_wish[wished] += 1
        if allocation.state is State.ALLOCATED and allocation.region and allocation.session_id:
            self.seconds.append(seconds)
            self.served_by[allocation.region] += 1
            self.hosted_by[allocation.provider or "gameye"] += 1
            self.sessions.add(allocation.session_id)
            if allocation.region != wished:
                self.passed_over[wished, allocation.region] += 1

    @property
    def answered(self) -> int:
        """How many have their answer."""
        return sum(self.ends.values())

    def quantile(self, share: float) -> float:
        """Seconds from enqueue to answer that this share of the allocated stayed under."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def all_served(self, ledgers: Sequence[dict[str, Any]]) -> bool:
        """Whether every match has a server, and every server its match."""
        return len(self.sessions) == self.wanted == sum(alive(ledger) for ledger in ledgers)


async def fetch_ledger(base_url: str) -> dict[str, Any]:
    """The counts of a simulated host."""
    counts = f"{base_url}/_simulator/ledger?sessions=false&rows=false"
    async with aiohttp.ClientSession() as session, session.get(counts) as reply:
        ledger: dict[str, Any] = await reply.json()
        return ledger


def alive(ledger: dict[str, Any]) -> int:
    """Sessions that run at a host: Gameye calls them `running`, Edgegap `READY`."""
    places = ledger.get("sessions_by_status", ledger.get("deployments_by_state", {}))
    return sum(by_status.get("running", 0) + by_status.get("READY", 0) for by_status in places.values())


def progress(tally: Tally) -> RenderableType:
    """One look at what is going on."""
    served = "   ".join(f"{region} {count}" for region, count in sorted(tally.served_by.items()))
    waiting = tally.asked - tally.answered - tally.unanswered
    return Group(
        Text(f"asked for {tally.asked} of {tally.wanted}   allocated {len(tally.sessions)}   waiting {waiting}"),
        ProgressBar(total=tally.wanted, completed=tally.answered, width=60),
        Text(f"served by   {served}", style="dim"),
    )


def results(tally: Tally, ledgers: Sequence[dict[str, Any]], full_at: int) -> RenderableType:
    """The table at the end, and where to look next."""
    table = Table(title="allocator demo", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row("matches asked for", str(tally.wanted))
    for state, count in sorted(tally.ends.items()):
        table.add_row(state, str(count))
    if tally.unanswered:
        table.add_row("without an answer", str(tally.unanswered))
    for (wished, region), count in sorted(tally.passed_over.items()):
        table.add_row("fell back", f"{wished} -> {region}: {count}")
    table.add_row("enqueue to answer", f"p50 {tally.quantile(0.5):.3f} s   p99 {tally.quantile(0.99):.3f} s")
    if len(ledgers) > 1:
        table.add_row("hosted by", "   ".join(f"{host}: {count}" for host, count in sorted(tally.hosted_by.items())))
    running = sum(alive(ledger) for ledger in ledgers)
    table.add_row("sessions at the provider", f"{running} running, for {len(tally.sessions)} allocations")
    gameye, *others = ledgers
    for region, answers in sorted(gameye["posts_by_status"].items()):
        fastest = gameye["starts_per_second_max"].get(region, 0)
        table.add_row(f"POST /session, {region}", f"{_said(answers)}   (at most {fastest} starts in a second)")
    for edgegap in others:
        for call, answers in sorted(edgegap["calls_by_status"].items()):
            fastest = edgegap["calls_per_second_max"][call]
            table.add_row(f"Edgegap, {call}", f"{_said(answers)}   (at most {fastest} in a second)")
    return Group(
        table,
        Text(f"europe had room for {full_at} and said 420 from then on; us-east lets 20 start a second."),
        Text("Look next:  allocator dev   (the same, for your own matchmaker)   README.md   allocator --help"),
    )


def _said(answers: Mapping[str, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(answers.items()))
