"""Edgegap's paths of applications, versions and image tags over HTTP.

In: requests. Out: each one read and handed on with what is to be done to the catalogue.
"""

from __future__ import annotations

from aiohttp import web

from allocator.simulator.delivery import Reply
from allocator.simulator.edgegap import catalog_bodies as bodies
from allocator.simulator.edgegap import catalog_shapes as shapes
from allocator.simulator.edgegap.catalog import Catalog
from allocator.simulator.edgegap.catalog_front import Answer, CatalogFront, done, shown
from allocator.simulator.edgegap.records import Record, Records
from allocator.simulator.edgegap.refused import Refused

_IMAGE = "/v1/container-registry/images/{image:.+}/tags"
_APP = "/v1/app/{app}"
_VERSION = f"{_APP}/version/{{version}}"


class CatalogApi:
    """What there is to deploy."""

    def __init__(self, front: CatalogFront) -> None:
        self._front = front

    def routes(self) -> list[web.RouteDef]:
        """The paths of applications, versions and tags."""
        return [
            web.get("/v1/apps", self._apps, allow_head=False),
            web.post("/v1/app", self._create_app),
            web.get(_APP, self._app, allow_head=False),
            web.patch(_APP, self._change_app),
            web.delete(_APP, self._delete_app),
            web.get(f"{_APP}/versions", self._versions, allow_head=False),
            web.post(f"{_APP}/version", self._create_version),
            web.get(_VERSION, self._version, allow_head=False),
            web.patch(_VERSION, self._change_version),
            web.delete(_VERSION, self._delete_version),
            web.get(_IMAGE, self._tags, allow_head=False),
            web.post(f"{_IMAGE}/bulk-delete", self._delete_tags),
            web.delete(f"{_IMAGE}/{{tag}}", self._delete_tag),
        ]

    async def _apps(self, request: web.Request) -> web.StreamResponse:
        return await self._front.page(request, "applications", lambda catalog: catalog.apps, shapes.shown)

    async def _create_app(self, request: web.Request) -> web.StreamResponse:
        return await self._front.write(
            request, bodies.NewApp, lambda catalog, body: shown(catalog.create_app(body), shapes.shown)
        )

    async def _app(self, request: web.Request) -> web.StreamResponse:
        app = request.match_info["app"]
        return await self._front.read(request, lambda catalog: shown(catalog.apps.find(app), shapes.shown))

    async def _change_app(self, request: web.Request) -> web.StreamResponse:
        app = request.match_info["app"]

        def act(catalog: Catalog, body: bodies.ChangedApp) -> Answer:
            return shown(catalog.apps.change(app, body.given(), catalog.now_ms()), shapes.shown)

        return await self._front.write(request, bodies.ChangedApp, act)

    async def _delete_app(self, request: web.Request) -> web.StreamResponse:
        app = request.match_info["app"]
        return await self._front.do(request, lambda catalog: done(catalog.delete_app(app), 200))

    async def _versions(self, request: web.Request) -> web.StreamResponse:
        app = request.match_info["app"]

        def rows(catalog: Catalog) -> Records[Record] | Refused:
            found = catalog.apps.find(app)
            return found if isinstance(found, Refused) else found.versions

        return await self._front.page(request, "versions", rows, shapes.version)

    async def _create_version(self, request: web.Request) -> web.StreamResponse:
        app = request.match_info["app"]
        return await self._front.write(
            request, bodies.NewVersion, lambda catalog, body: _version_made(catalog.create_version(app, body))
        )

    async def _version(self, request: web.Request) -> web.StreamResponse:
        app, version = request.match_info["app"], request.match_info["version"]
        return await self._front.read(request, lambda catalog: shown(catalog.version(app, version), shapes.version))

    async def _change_version(self, request: web.Request) -> web.StreamResponse:
        app, version = request.match_info["app"], request.match_info["version"]
        return await self._front.write(
            request,
            bodies.ChangedVersion,
            lambda catalog, body: _version_made(catalog.change_version(app, version, body)),
        )

    async def _delete_version(self, request: web.Request) -> web.StreamResponse:
        app, version = request.match_info["app"], request.match_info["version"]

        def act(catalog: Catalog) -> Answer:
            deleted = catalog.delete_version(app, version)
            return deleted if isinstance(deleted, Refused) else {"success": True, "message": f"{version} deleted"}

        return await self._front.do(request, act)

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        """A page of tags; the description has no envelope here, so a page that is not full is the last."""
        image = request.match_info["image"]
        missing = ("total_count", "pagination")
        return await self._front.page(
            request, "data", lambda catalog: catalog.registry.tags(image), lambda row: row, without=missing
        )

    async def _delete_tag(self, request: web.Request) -> web.StreamResponse:
        image, tag = request.match_info["image"], request.match_info["tag"]
        return await self._front.do(request, lambda catalog: catalog.registry.delete(image, tag))

    async def _delete_tags(self, request: web.Request) -> web.StreamResponse:
        image = request.match_info["image"]

        def act(catalog: Catalog, body: bodies.DeletedTags) -> Answer:
            deleted = catalog.registry.delete_many(image, body.tags)
            return deleted if isinstance(deleted, Refused) else Reply(207, deleted)

        return await self._front.write(request, bodies.DeletedTags, act)


def _version_made(outcome: Record | Refused) -> Answer:
    return outcome if isinstance(outcome, Refused) else {"success": True, "version": shapes.version(outcome)}
