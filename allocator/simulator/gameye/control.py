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
from pydantic import ValidationError

from allocator.simulator.bodies import Violation, read_boolean, read_json
from allocator.simulator.gameye.fleet import Fleet, Refused
from allocator.simulator.gameye.ledger import Status
from allocator.simulator.gameye.settings import SimulatorSettings
from allocator.simulator.tables import sentence


class ControlDoor:
    """Reads the ledger of the current fleet, and hands settings and resets to whoever owns the fleet."""

    def __init__(
        self, fleet: Callable[[], Fleet], *, apply: Callable[[SimulatorSettings], None], reset: Callable[[], None]
    ) -> None:
        self._fleet = fleet
        self._apply = apply
        self._reset = reset

    def routes(self) -> list[web.RouteDef]:
        """The four paths of the control door."""
        return [
            web.get("/_simulator/ledger", self._show),
            web.delete("/_simulator/ledger", self._clear),
            web.put("/_simulator/settings", self._configure),
            web.put("/_simulator/sessions/{id}", self._set_status),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        sessions = read_boolean("sessions", request.query.get("sessions", "true"))
        if isinstance(sessions, Violation):
            return _wrong(f"{sessions.field} {sessions.description}")
        fleet = self._fleet()
        fleet.settle()
        return web.json_response(fleet.ledger.to_json(sessions=sessions))

    async def _clear(self, _request: web.Request) -> web.Response:
        self._reset()
        return web.Response(status=204)

    async def _configure(self, request: web.Request) -> web.Response:
        body = read_json(await request.read())
        if isinstance(body, Violation):
            return _wrong(f"{body.field} {body.description}")
        try:
            settings = SimulatorSettings.model_validate(body)
        except ValidationError as error:
            return _wrong(sentence(error))
        self._apply(settings)
        return web.Response(status=204)

    async def _set_status(self, request: web.Request) -> web.Response:
        body = read_json(await request.read())
        status = body.get("status") if isinstance(body, dict) else None
        if status not in list(Status):
            return _wrong(f"status must be one of {', '.join(Status)}")
        outcome = self._fleet().set_status(request.match_info["id"], Status(status))
        if isinstance(outcome, Refused):
            return web.json_response({"message": outcome.details}, status=outcome.status)
        return web.json_response(outcome.to_json())


def _wrong(message: str) -> web.Response:
    return web.json_response({"message": message}, status=422)
