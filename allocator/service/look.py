"""One look at the whole fleet, as Redis has it: what waits, what is under way, how the regions stand, what ended.

In: a connection, settings. Out: a frozen `Look` over all partitions. Promises: nothing is changed but that a lever
which has lapsed is dropped, as by every worker that reads them; what a look asks is bounded, however much waits: no
keys are searched, and of a stream no more is read than its newest entries (`look_results` says what of that is exact).
Depths, leases and the condemned are counts that Redis keeps; orphans are what the reconciler's last pass found. No
`env`, `args` or body is read. The parts are asked one after the other, so that they may differ by milliseconds.

Whoever looks again with the same `Looker` is told what ended in between. A Redis that cannot be asked is one of
`UNREACHABLE`; the next look may fare better.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from allocator.broker.broker import BrokerUnavailable, Depth, Survey
from allocator.broker.census import OrphanKind, Tally
from allocator.broker.levers import Levers
from allocator.client.partitions import read_partitions
from allocator.contract.partitions import Partitions
from allocator.engine.sampler import total
from allocator.gate.gate import GateUnavailable
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import RedisFault
from allocator.service.live_regions import RegionRow, panel_on, pause_facts
from allocator.service.look_results import Ended, News, Result, Tail, entries_max, is_absent, latest, summed
from allocator.service.records import Records, build_records
from allocator.service.settings import Settings

UNREACHABLE = (BrokerUnavailable, GateUnavailable, RedisFault)
"""What a look raises where Redis cannot be asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Look:
    """The fleet at one moment, on the clock of Redis.

    `cancellations` wait or are being carried out; `orphans` is None where no pass of a reconciler is known; `results`
    are the latest, newest first; `ended` is what ended since the look before, None where there was none.
    """

    at_ms: int
    namespace: str
    survey: Survey
    cancellations: int
    dead_letters: int
    orphans: Mapping[OrphanKind, int] | None
    levers: Levers
    regions: tuple[RegionRow, ...]
    results: tuple[Result, ...]
    ended: Ended | None

    def to_data(self) -> dict[str, Any]:
        """As JSON has it: times in Unix milliseconds."""
        return {
            "at": self.at_ms,
            "namespace": self.namespace,
            "queue": {str(priority): _depth_data(depth) for priority, depth in self.survey.depths.items()},
            "allocating": self.survey.held,
            "parked": self.survey.parked,
            "cancellations": self.cancellations,
            "dead_letters": self.dead_letters,
            "condemned": self.survey.condemned,
            "orphans": None if self.orphans is None else {str(kind): each for kind, each in self.orphans.items()},
            **pause_facts(self.levers),
            "levers": [_lever_data(name, self.levers) for name in self.levers.regions],
            "regions": [row.to_data() for row in self.regions],
            "ended": None if self.ended is None else self.ended.to_data(),
            "results": [each.to_data() for each in self.results],
        }


class Looker:
    """Looks at one namespace, again and again."""

    def __init__(self, connection: RedisConnection, settings: Callable[[], Settings]) -> None:
        """`settings` gives those of the moment: of them the regions, accounts and rates may change between looks."""
        self._connection = connection
        self._settings = settings
        self._records: tuple[Records, ...] = ()
        self._tails: tuple[Tail, ...] = ()
        self._is_settled = False
        self._results: tuple[Result, ...] = ()
        self._looked_at_seconds: float | None = None

    async def look(self) -> Look:
        """Look once. Raises `UNREACHABLE`."""
        settings = self._settings()
        await self._find_partitions(settings)
        surveys, tallies, (levers, rows) = await asyncio.gather(
            asyncio.gather(*(each.broker.survey() for each in self._records)),
            asyncio.gather(*(each.census.tally(name) for each in self._records for name in settings.providers)),
            self._regions(settings),
        )
        # Last of all: what was read of the streams is not read again, and must not be lost with a fault elsewhere.
        now_seconds, lengths, news = await self._streams()
        before, self._looked_at_seconds = self._looked_at_seconds, now_seconds
        if any(each.was_lost for each in news):
            self._results = ()
        self._results = latest([result for each in news for result in each.results] + list(self._results))
        return Look(
            at_ms=int(now_seconds * 1000),
            namespace=settings.namespace,
            survey=total(surveys),
            cancellations=sum(waiting for waiting, _ in lengths),
            dead_letters=sum(letters for _, letters in lengths),
            orphans=_orphans([each for each in tallies if each is not None]),
            levers=levers,
            regions=tuple(rows),
            results=self._results,
            ended=None if before is None else summed(news, now_seconds - before),
        )

    async def _find_partitions(self, settings: Settings) -> None:
        """As Redis says, which holds for good; until a worker has made the namespace, as the settings do."""
        if self._is_settled:
            return
        known = await read_partitions(self._connection, settings.namespace)
        self._is_settled = known is not None
        partitions = known or Partitions(settings.namespace, settings.partitions)
        if [each.keys for each in self._records] != list(partitions.every):
            self._records = build_records(settings, self._connection, partitions)
            self._tails = tuple(Tail(keys, entries_max(partitions.count)) for keys in partitions.every)
            self._looked_at_seconds = None

    async def _streams(self) -> tuple[float, list[tuple[int, int]], list[News]]:
        """The clock of Redis, and of each partition how many cancellations and letters there are, and what ended."""
        commands: list[Sequence[Any]] = [("TIME",)]
        for tail in self._tails:
            commands += (*tail.commands(), ("XLEN", tail.keys.cancellations), ("XLEN", tail.keys.dead_letters))
        (seconds, microseconds), *replies = await self._connection.execute_many(commands)
        for reply in replies:
            if isinstance(reply, RedisFault) and not is_absent(reply):
                raise reply
        each = [replies[at : at + 4] for at in range(0, len(replies), 4)]
        lengths = [(waiting, letters) for *_, waiting, letters in each]
        news = [tail.read(entries, facts) for tail, (entries, facts, *_) in zip(self._tails, each, strict=True)]
        return int(seconds) + int(microseconds) / 1e6, lengths, news

    async def _regions(self, settings: Settings) -> tuple[Levers, list[RegionRow]]:
        panel = panel_on(self._connection, settings)
        levers = await panel.board.read()
        return levers, await panel.rows(levers)


@asynccontextmanager
async def open_looker(settings: Callable[[], Settings], *, name: str) -> AsyncIterator[Looker]:
    """Give a looker whose connection, of this name, ends with the block. RedisUrlError: redis.url is none."""
    async with await connect(settings().redis.url.get_secret_value(), name=name) as connection:
        yield Looker(connection, settings)


def _orphans(tallies: Sequence[Tally]) -> dict[OrphanKind, int] | None:
    return {kind: sum(each.orphans[kind] for each in tallies) for kind in OrphanKind} if tallies else None


def _depth_data(depth: Depth) -> dict[str, Any]:
    return {"untaken": depth.untaken, "pending": depth.pending, "oldest_seconds": round(depth.oldest_seconds, 3)}


def _lever_data(name: str, levers: Levers) -> dict[str, Any]:
    lever = levers.regions[name]
    return {
        "region": name,
        "drained": lever.drained,
        "drained_until": lever.drained_until_ms,
        "rate": lever.rate,
        "rate_until": lever.rate_until_ms,
    }
