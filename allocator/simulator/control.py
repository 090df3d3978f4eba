"""The paths that every vendor's control door has: the ledger, and the settings while the simulator runs.

In: the fleet of the moment, the settings' shape, and whoever owns the fleet. Out: routes. A bad body or query answers
422 with `{"message"}`, and changes nothing. What else a door lets be done, a vendor's own `control` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import ValidationError

from allocator.simulator.bodies import Violation, read_boolean, read_json
from allocator.simulator.tables import Frozen, sentence
from allocator.simulator.vendor import Fleet

_S = TypeVar("_S", bound=Frozen)


class LedgerAndSettings(Generic[_S]):
    """Shows the ledger of the current fleet, and hands settings and resets to whoever owns the fleet."""

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        kind: type[_S],
        *,
        rows: str,
        apply: Callable[[_S], None],
        reset: Callable[[], None],
    ) -> None:
        """Take settings of this kind; `rows` is the query's word for whether the ledger is shown with its rows."""
        self._fleet = fleet
        self._kind = kind
        self._rows = rows
        self._apply = apply
        self._reset = reset

    def routes(self) -> list[web.RouteDef]:
        """Its three paths."""
        return [
            web.get("/_simulator/ledger", self._read),
            web.delete("/_simulator/ledger", self._clear),
            web.put("/_simulator/settings", self._configure),
        ]

    async def _read(self, request: web.Request) -> web.Response:
        rows = read_boolean(self._rows, request.query.get(self._rows, "true"))
        if isinstance(rows, Violation):
            return wrong(f"{rows.field} {rows.description}")
        fleet = self._fleet()
        fleet.settle()
        return web.json_response(fleet.ledger.to_json(rows=rows))

    async def _clear(self, _request: web.Request) -> web.Response:
        self._reset()
        return web.Response(status=204)

    async def _configure(self, request: web.Request) -> web.Response:
        body = read_json(await request.read())
        if isinstance(body, Violation):
            return wrong(f"{body.field} {body.description}")
        try:
            settings = self._kind.model_validate(body)
        except ValidationError as error:
            return wrong(sentence(error))
        self._apply(settings)
        return web.Response(status=204)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object of a body; an empty one where it is none."""
    body = read_json(await request.read())
    return body if isinstance(body, dict) else {}


def wrong(message: str) -> web.Response:
    """The answer to a bad body or query."""
    return web.json_response({"message": message}, status=422)
