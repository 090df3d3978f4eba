"""Edgegap's paths of endpoint storages, pull profiles and their links over HTTP.

In: requests. Out: each one read and handed on with what is to be done to the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from allocator.simulator.delivery import Reply
from allocator.simulator.edgegap import catalog_bodies as bodies
from allocator.simulator.edgegap import catalog_shapes as shapes
from allocator.simulator.edgegap.catalog import Catalog, Profile
from allocator.simulator.edgegap.catalog_front import Answer, CatalogFront, done, shown
from allocator.simulator.edgegap.records import Record
from allocator.simulator.edgegap.refused import Refused

_STORAGE = "/v1/storage/endpoint/{storage}"
_PROFILE = f"{_STORAGE}/pull-profile/{{profile}}"


class StorageApi:
    """What a deployment loads, and where its logs go."""

    def __init__(self, front: CatalogFront) -> None:
        self._front = front

    def routes(self) -> list[web.RouteDef]:
        """The paths of storages, profiles and links."""
        return [
            web.get("/v1/storage/endpoints", self._storages, allow_head=False),
            web.post("/v1/storage/endpoint", self._create_storage),
            web.get(_STORAGE, self._storage, allow_head=False),
            web.patch(_STORAGE, self._change_storage),
            web.delete(_STORAGE, self._delete_storage),
            web.get(f"{_STORAGE}/pull-profiles", self._profiles, allow_head=False),
            web.post(f"{_STORAGE}/pull-profile", self._create_profile),
            web.get(_PROFILE, self._profile, allow_head=False),
            web.patch(_PROFILE, self._change_profile),
            web.delete(_PROFILE, self._delete_profile),
            web.put(f"{_PROFILE}/app/{{app}}/version/{{version}}", self._link),
            web.delete(f"{_PROFILE}/app/{{app}}/version/{{version}}", self._unlink),
        ]

    async def _storages(self, request: web.Request) -> web.StreamResponse:
        """A page of storages; the description has no `total_count` here."""
        return await self._front.page(
            request, "endpoints", lambda catalog: catalog.storages, shapes.shown, without=("total_count",)
        )

    async def _create_storage(self, request: web.Request) -> web.StreamResponse:
        return await self._front.write(
            request, bodies.NewStorage, lambda catalog, body: shown(catalog.create_storage(body), shapes.shown)
        )

    async def _storage(self, request: web.Request) -> web.StreamResponse:
        storage = request.match_info["storage"]
        return await self._front.read(request, lambda catalog: shown(catalog.storages.find(storage), shapes.shown))

    async def _change_storage(self, request: web.Request) -> web.StreamResponse:
        storage = request.match_info["storage"]
        return await self._front.write(
            request,
            bodies.ChangedStorage,
            lambda catalog, body: shown(catalog.change_storage(storage, body), shapes.shown),
        )

    async def _delete_storage(self, request: web.Request) -> web.StreamResponse:
        storage = request.match_info["storage"]
        return await self._front.do(request, lambda catalog: done(catalog.delete_storage(storage), 204))

    async def _profiles(self, request: web.Request) -> web.StreamResponse:
        storage = request.match_info["storage"]

        def rows(catalog: Catalog) -> Iterable[Record] | Refused:
            found = catalog.storages.find(storage)
            return found if isinstance(found, Refused) else found.profiles

        return await self._front.page(request, "pull_profiles", rows, shapes.shown)

    async def _create_profile(self, request: web.Request) -> web.StreamResponse:
        storage = request.match_info["storage"]
        return await self._front.write(
            request,
            bodies.NewProfile,
            lambda catalog, body: shown(catalog.create_profile(storage, body), shapes.shown),
        )

    async def _profile(self, request: web.Request) -> web.StreamResponse:
        storage, profile = request.match_info["storage"], request.match_info["profile"]
        return await self._front.read(request, lambda catalog: shown(catalog.profile(storage, profile), shapes.shown))

    async def _change_profile(self, request: web.Request) -> web.StreamResponse:
        storage, profile = request.match_info["storage"], request.match_info["profile"]

        def act(catalog: Catalog, body: bodies.ChangedProfile) -> Answer:
            found = catalog.storages.find(storage)
            if isinstance(found, Refused):
                return found
            return shown(found.profiles.change(profile, body.given(), catalog.now_ms()), shapes.shown)

        return await self._front.write(request, bodies.ChangedProfile, act)

    async def _delete_profile(self, request: web.Request) -> web.StreamResponse:
        storage, profile = request.match_info["storage"], request.match_info["profile"]

        def act(catalog: Catalog) -> Answer:
            found = catalog.storages.find(storage)
            return found if isinstance(found, Refused) else done(found.profiles.remove(profile), 204)

        return await self._front.do(request, act)

    async def _link(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info

        def act(catalog: Catalog, profile: Profile, version: Record) -> Answer:
            at_ms = catalog.link(profile, version)
            return shapes.link(
                app=names["app"],
                version=names["version"],
                storage=names["storage"],
                profile=names["profile"],
                at_ms=at_ms,
            )

        return await self._of_both(request, act)

    async def _unlink(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info

        def act(_catalog: Catalog, profile: Profile, version: Record) -> Answer:
            if profile.links.pop(version, None) is None:
                return Refused(404, f"{names['profile']} is not linked to {names['app']} {names['version']}")
            return Reply(204, headers={})

        return await self._of_both(request, act)

    async def _of_both(
        self, request: web.Request, act: Callable[[Catalog, Profile, Record], Answer]
    ) -> web.StreamResponse:
        """Act on the profile and the version that the path names, the profile missed first."""
        names = request.match_info

        def find(catalog: Catalog) -> Answer:
            profile = catalog.profile(names["storage"], names["profile"])
            version = catalog.version(names["app"], names["version"])
            if isinstance(profile, Refused):
                return profile
            return version if isinstance(version, Refused) else act(catalog, profile, version)

        return await self._front.do(request, find)
