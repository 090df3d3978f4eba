"""What the calls of the catalogue have in common: bodies are read, pages cut, outcomes worded.

In: requests, and what is to be done to the catalogue. Out: answers, by way of `front`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import ValidationError

from allocator.simulator.bodies import Violation, read_json
from allocator.simulator.delivery import Reply
from allocator.simulator.dice import Fate
from allocator.simulator.edgegap.catalog import Catalog
from allocator.simulator.edgegap.catalog_bodies import CatalogBody
from allocator.simulator.edgegap.deploy_body import wrong
from allocator.simulator.edgegap.faults import Operation
from allocator.simulator.edgegap.fleet import Fleet
from allocator.simulator.edgegap.front import Front
from allocator.simulator.edgegap.paging import read_page
from allocator.simulator.edgegap.records import Record
from allocator.simulator.edgegap.refused import Refused

_T = TypeVar("_T")
_B = TypeVar("_B", bound=CatalogBody)
Answer = Reply | Refused | dict[str, Any]
Shape = Callable[[Record], dict[str, Any]]


class CatalogFront:
    """The front door as the catalogue's calls use it."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def read(self, request: web.Request, act: Callable[[Catalog], Answer]) -> web.StreamResponse:
        """Answer what changes nothing."""
        return await self._front.answer(request, Operation.CATALOG_READ, lambda fleet, _fate: act(fleet.catalog))

    async def do(self, request: web.Request, act: Callable[[Catalog], Answer]) -> web.StreamResponse:
        """Answer what changes something and takes no body."""
        return await self._front.answer(request, Operation.CATALOG_WRITE, lambda fleet, _fate: act(fleet.catalog))

    async def write(
        self, request: web.Request, kind: type[_B], act: Callable[[Catalog, _B], Answer]
    ) -> web.StreamResponse:
        """Read a body, then do what it says."""
        read = _read_body(kind, read_json(await request.read()))
        if isinstance(read, Refused):
            return await self.do(request, lambda _catalog: read)
        return await self.do(request, lambda catalog: act(catalog, read))

    async def page(
        self,
        request: web.Request,
        key: str,
        rows: Callable[[Catalog], Iterable[_T] | Refused],
        shape: Callable[[_T], dict[str, Any]],
        *,
        without: Iterable[str] = (),
    ) -> web.StreamResponse:
        """Answer one page of rows under a key, in an envelope `without` what the description does not have there."""

        def act(fleet: Fleet, _fate: Fate) -> Answer:
            page, found = read_page(request.query, fleet.settings), rows(fleet.catalog)
            if isinstance(page, Refused):
                return page
            if isinstance(found, Refused):
                return found
            all_rows = list(found)
            envelope = {name: value for name, value in page.envelope(len(all_rows)).items() if name not in without}
            return {key: [shape(row) for row in page.of(all_rows)], **envelope}

        return await self._front.answer(request, Operation.CATALOG_READ, act)


def _read_body(kind: type[_B], body: Any) -> _B | Refused:
    if isinstance(body, Violation):
        return Refused(400, f"{body.field} {body.description}")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        return Refused(400, "Input payload validation failed", wrong(error).details)


def shown(outcome: Record | Refused, shape: Shape) -> Answer:
    """The record in its shape, or the refusal."""
    return outcome if isinstance(outcome, Refused) else shape(outcome)


def done(outcome: Record | Refused, status: int) -> Answer:
    """An answer without a body, or the refusal."""
    return outcome if isinstance(outcome, Refused) else Reply(status, headers={})
