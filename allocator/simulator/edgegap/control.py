"""The control door: how other processes read the ledger and change the settings while the simulator runs.

None of this is the vendor's, and none of it asks for a token: the simulator listens on the loopback unless told
otherwise, and holds nothing worth a secret.

    GET    /_simulator/ledger                counts and every row; `?rows=false`: the counts alone
    GET    /_simulator/catalog               what there is to deploy, and the links, which the vendor never shows
    DELETE /_simulator/ledger                begin again: no deployments, no calls, catalogue and dice as at the start
    PUT    /_simulator/settings              the settings from now on, as JSON in the shape of the TOML script
    PUT    /_simulator/deployments/{id}      `{"state": "ERROR", "detail": "..."}`: put one into any state

In the ledger: `deployments_total`, `calls_total`, `deployments_by_state` (location, then state), `calls_by_status`
(operation, then status; a call whose answer was lost is under `none`), `calls_per_second_max` (the most that came in
any rolling second, by operation), `webhooks_by_outcome`; and as rows `deployments`, `calls`, `webhooks`. A bad body
answers 422 with `{"message"}`, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from allocator.simulator.control import LedgerAndSettings, read_object, wrong
from allocator.simulator.edgegap.catalog_shapes import overview
from allocator.simulator.edgegap.deployment import State
from allocator.simulator.edgegap.fleet import Fleet
from allocator.simulator.edgegap.refused import Refused
from allocator.simulator.edgegap.settings import SimulatorSettings


class ControlDoor:
    """Reads the ledger of the current fleet, and hands settings and resets to whoever owns the fleet."""

    def __init__(
        self, fleet: Callable[[], Fleet], *, apply: Callable[[SimulatorSettings], None], reset: Callable[[], None]
    ) -> None:
        self._fleet = fleet
        self._shared = LedgerAndSettings(fleet, SimulatorSettings, rows="rows", apply=apply, reset=reset)

    def routes(self) -> list[web.RouteDef]:
        """The five paths of the control door."""
        return [
            *self._shared.routes(),
            web.get("/_simulator/catalog", self._show_catalog),
            web.put("/_simulator/deployments/{id}", self._set_state),
        ]

    async def _show_catalog(self, _request: web.Request) -> web.Response:
        return web.json_response(overview(self._fleet().catalog))

    async def _set_state(self, request: web.Request) -> web.Response:
        asked = await read_object(request)
        state, detail = asked.get("state"), asked.get("detail")
        if state not in list(State):
            return wrong(f"state must be one of {', '.join(State)}")
        outcome = self._fleet().set_state(
            request.match_info["id"], State(state), None if detail is None else str(detail)
        )
        if isinstance(outcome, Refused):
            return web.json_response({"message": outcome.message}, status=404)
        return web.json_response(outcome.to_json())
