"""The control door: how other processes read the ledger and change the settings while the simulator runs.

None of this is the vendor's, and none of it asks for a token: the simulator listens on the loopback unless told
otherwise, and holds nothing worth a secret.

    GET    /_simulator/ledger           counts and every session; `?sessions=false`: the counts alone, always quick
    DELETE /_simulator/ledger           begin again: no sessions, no POSTs, rates and pools unused, dice as at the start
    PUT    /_simulator/settings         the settings from now on, as JSON in the shape of the TOML script; sessions stay
    PUT    /_simulator/sessions/{id}    `{"status": "draining"}`: put a session into any of the vendor's states

In the ledger: `sessions_total`, `posts_total`, `sessions_by_status` and `posts_by_status` (location, then status; a
POST whose answer was lost is under `none`), and by location the most in any rolling second: `starts_per_second_max`
(sessions that came up), `posts_per_second_max` (POSTs that came in). A bad body answers 422 with `{"message"}`, and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from allocator.simulator.control import LedgerAndSettings, read_object, wrong
from allocator.simulator.gameye.fleet import Fleet, Refused
from allocator.simulator.gameye.ledger import Status
from allocator.simulator.gameye.settings import SimulatorSettings


class ControlDoor:
    """Reads the ledger of the current fleet, and hands settings and resets to whoever owns the fleet."""

    def __init__(
        self, fleet: Callable[[], Fleet], *, apply: Callable[[SimulatorSettings], None], reset: Callable[[], None]
    ) -> None:
        self._fleet = fleet
        self._shared = LedgerAndSettings(fleet, SimulatorSettings, rows="sessions", apply=apply, reset=reset)

    def routes(self) -> list[web.RouteDef]:
        """The four paths of the control door."""
        return [*self._shared.routes(), web.put("/_simulator/sessions/{id}", self._set_status)]

    async def _set_status(self, request: web.Request) -> web.Response:
        status = (await read_object(request)).get("status")
        if status not in list(Status):
            return wrong(f"status must be one of {', '.join(Status)}")
        outcome = self._fleet().set_status(request.match_info["id"], Status(status))
        if isinstance(outcome, Refused):
            return web.json_response({"message": outcome.details}, status=outcome.status)
        return web.json_response(outcome.to_json())
