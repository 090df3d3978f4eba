"""The list calls of one process: what many want to know at once is asked in one call.

In: request ids, or tags, each asked for by someone who waits. Out: the deployments that bear them, as the list shows
them. The host limits lists and not what a list holds, so that whoever comes while leave to call is waited for goes into
the same call: four hundred pending deployments are four calls. Promises: no call without leave; who waits hears within
the time given. What a row means is left to others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

from allocator.providers.edgegap.pace import Kind, Pace
from allocator.providers.edgegap.wire import Page, Row
from allocator.providers.provider import LookupFailed

ROWS_MAX = 100
"""On a page; the host does not say how many it allows."""
LEAVE_SECONDS = 5.0
"""How long one call waits for leave; longer than nine others need, in a fleet that has them all under way."""

LONG_SECONDS = 0.3
"""Who waits so long for leave has others before it, here or elsewhere in the fleet."""
BROKEN_OFF = LookupFailed("the look-up was broken off")

List = Callable[[str, int, int], Awaitable[Page | LookupFailed]]
"""Asks for one page: the query, its number from 1, rows at most."""


class By(StrEnum):
    """What deployments are asked for by."""

    REQUEST_ID = "request_id"
    TAG = "tags"


_NAMES_MAX = {By.REQUEST_ID: 100, By.TAG: 50}
"""In one call: what makes an address of about 4 KB, which every proxy takes."""

_Waiter = asyncio.Future[list[Row] | LookupFailed]


class Lookout:
    """One process's list calls."""

    def __init__(self, ask: List, pace: Pace) -> None:
        self._ask = ask
        self._pace = pace
        self._waiting: dict[By, dict[str, list[_Waiter]]] = {by: {} for by in By}
        self._asking: set[asyncio.Task[None]] = set()
        self._gatherer: asyncio.Task[None] | None = None
        self.waits_long = False
        """Whether leave for the last call took so long that the calls of the fleet are close to their limit."""

    async def rows(self, by: By, name: str) -> list[Row] | LookupFailed:
        """The deployments of this request id, or that bear this tag."""
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self._waiting[by].setdefault(name, []).append(waiter)
        if self._gatherer is None:
            self._gatherer = loop.create_task(self._gather())
        return await waiter

    async def every(self, tag: str, order_by: str) -> list[Row] | LookupFailed:
        """All deployments that bear a tag, however many pages they fill.

        Pages are read from the last to the first, oldest rows first: what ends meanwhile moves others to an earlier
        page, where they are read twice and never missed.
        """
        query = _query(By.TAG, [tag], order_by)
        first = await self._page(query, 1)
        if isinstance(first, LookupFailed):
            return first
        rows = {row.request_id: row for row in first.data}
        if first.pagination.has_next:
            for number in range(max(2, first.pagination.paginator.num_pages), 0, -1):
                page = await self._page(query, number)
                if isinstance(page, LookupFailed):
                    return page
                rows |= {row.request_id: row for row in page.data}
        return list(rows.values())

    async def close(self) -> None:
        """Let go of what is being asked."""
        asking = [*self._asking, *([self._gatherer] if self._gatherer is not None else [])]
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        self._let_go()

    async def _gather(self) -> None:
        """Make calls as long as someone waits, each with all who have come before its turn."""
        loop = asyncio.get_running_loop()
        try:
            turn = By.REQUEST_ID
            while any(self._waiting.values()):
                since = loop.time()
                may_call = await self._pace(Kind.LIST, LEAVE_SECONDS)
                self.waits_long = loop.time() - since > LONG_SECONDS
                turn = turn if self._waiting[turn] else next(by for by in By if by is not turn)
                names = list(self._waiting[turn])[: _NAMES_MAX[turn]]
                self._ask_for(turn, {name: self._waiting[turn].pop(name) for name in names}, may_call=may_call)
                turn = next(by for by in By if by is not turn)
        finally:
            self._gatherer = None
            self._let_go()

    def _let_go(self) -> None:
        """Tell those who still wait that nobody asks for them."""
        for by, names in self._waiting.items():
            self._waiting[by] = {}
            for waiters in names.values():
                _settle(waiters, BROKEN_OFF)

    def _ask_for(self, by: By, batch: dict[str, list[_Waiter]], *, may_call: bool) -> None:
        if not may_call:
            for waiters in batch.values():
                _settle(waiters, LookupFailed(f"no leave to list within {LEAVE_SECONDS:g} s: others come first"))
            return
        if any(not waiter.done() for waiters in batch.values() for waiter in waiters):
            asking = asyncio.get_running_loop().create_task(self._answer(by, batch))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _answer(self, by: By, batch: dict[str, list[_Waiter]]) -> None:
        found: list[Row] | LookupFailed = BROKEN_OFF
        try:
            found = await self._batch(by, list(batch))
        finally:
            for name, waiters in batch.items():
                _settle(waiters, found if isinstance(found, LookupFailed) else _of(by, name, found))

    async def _batch(self, by: By, names: Sequence[str]) -> list[Row] | LookupFailed:
        """One call, for which leave was given, and one more for each further page."""
        rows: list[Row] = []
        query, number = _query(by, names), 1
        page = await self._ask(query, number, ROWS_MAX)
        while not isinstance(page, LookupFailed):
            rows += page.data
            if not page.pagination.has_next:
                return rows
            number += 1
            page = await self._page(query, number)
        return page

    async def _page(self, query: str, number: int) -> Page | LookupFailed:
        if not await self._pace(Kind.LIST, LEAVE_SECONDS):
            return LookupFailed(f"no leave to list within {LEAVE_SECONDS:g} s: others come first")
        return await self._ask(query, number, ROWS_MAX)


def _query(by: By, names: Sequence[str], order_by: str | None = None) -> str:
    query: dict[str, Any] = {"filters": [{"field": by.value, "operator": "in", "value": list(names)}]}
    if order_by is not None:
        query["order_by"] = [{"field": order_by, "order": "asc"}]
    return json.dumps(query, separators=(",", ":"))


def _of(by: By, name: str, rows: Sequence[Row]) -> list[Row]:
    if by is By.TAG:
        return [row for row in rows if name in (row.tags or ())]
    return [row for row in rows if row.request_id == name]


def _settle(waiters: Sequence[_Waiter], answer: list[Row] | LookupFailed) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(answer)
