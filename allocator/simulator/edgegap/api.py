"""Edgegap's paths of deployments over HTTP; those of the catalogue are `catalog_api`'s and `storage_api`'s.

In: requests. Out: each one read and handed to `front` with what is to be done on the fleet.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from allocator.simulator.bodies import read_json
from allocator.simulator.clock import Clock
from allocator.simulator.delivery import Reply
from allocator.simulator.dice import Fate
from allocator.simulator.edgegap import shapes
from allocator.simulator.edgegap.deploy_body import Asked, Wrong, read_deploy
from allocator.simulator.edgegap.deployment import Deployment
from allocator.simulator.edgegap.faults import Operation
from allocator.simulator.edgegap.fleet import Fleet, NoPlace, Stopped
from allocator.simulator.edgegap.front import Front
from allocator.simulator.edgegap.list_query import read_query
from allocator.simulator.edgegap.paging import read_page
from allocator.simulator.edgegap.refused import Refused


class DeploymentApi:
    """Deploy, look, list, stop."""

    def __init__(self, front: Front, clock: Clock) -> None:
        self._front = front
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """The paths of deployments."""
        return [
            web.post("/v2/deployments", self._deploy),
            web.get("/v1/status/{id}", self._status, allow_head=False),
            web.get("/v1/deployments", self._list, allow_head=False),
            web.delete("/v1/stop/{id}", self._stop),
        ]

    def describe(self, deployment: Deployment) -> dict[str, Any]:
        """The status of a deployment as it stands."""
        locations = self._front.fleet().settings.locations
        return shapes.described(deployment, locations, int(self._clock.wall() * 1000))

    async def _deploy(self, request: web.Request) -> web.StreamResponse:
        asked = read_deploy(read_json(await request.read()))

        def act(fleet: Fleet, fate: Fate) -> Reply | Refused:
            if isinstance(asked, Wrong):
                return Refused(400, "Invalid request body", asked.details)
            match fleet.deploy(asked, fate):
                case Deployment() as made:
                    return Reply(202, {"request_id": made.request_id})
                case NoPlace() as none:
                    return Reply(422, {"request_id": none.request_id, "message": "Could not allocate a server"})
                case refused:
                    return refused

        def act_late(fleet: Fleet, fate: Fate, after_seconds: float) -> None:
            if isinstance(asked, Asked):
                fleet.deploy_late(asked, fate, after_seconds)

        place = self._front.fleet().where(asked) if isinstance(asked, Asked) else None
        tags = asked.tags if isinstance(asked, Asked) else ()
        return await self._front.answer(request, Operation.DEPLOY, act, place=place, act_late=act_late, tags=tags)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        request_id = request.match_info["id"]

        def act(fleet: Fleet, _fate: Fate) -> Refused | dict[str, Any]:
            found = fleet.find(request_id)
            return found if isinstance(found, Refused) else self.describe(found)

        place = self._whereabouts(request_id)
        return await self._front.answer(request, Operation.STATUS, act, place=place, request_id=request_id)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        wanted = read_query(request.query.get("query"))

        def act(fleet: Fleet, _fate: Fate) -> Refused | dict[str, Any]:
            page = read_page(request.query, fleet.settings)
            if isinstance(wanted, Refused):
                return wanted
            if isinstance(page, Refused):
                return page
            rows = wanted(fleet.active())
            return {"data": [shapes.listed(each) for each in page.of(rows)], **page.envelope(len(rows))}

        return await self._front.answer(request, Operation.LIST, act)

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        request_id = request.match_info["id"]

        def act(fleet: Fleet, _fate: Fate) -> Reply | Refused:
            match fleet.stop(request_id):
                case Stopped(deployment, deferred=False):
                    message = "Deployment is being terminated"
                    return Reply(200, {"message": message, "deployment_summary": self.describe(deployment)})
                case Stopped():
                    message = "Deployment is not ready yet; it will be terminated once it is"
                    return Reply(fleet.settings.deferred_stop_status, {"message": message})
                case refused:
                    return refused

        place = self._whereabouts(request_id)
        return await self._front.answer(request, Operation.STOP, act, place=place, request_id=request_id)

    def _whereabouts(self, request_id: str) -> str | None:
        found = self._front.fleet().ledger.find(request_id)
        return None if found is None else found.location
