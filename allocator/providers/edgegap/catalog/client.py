"""Every operation of the catalogue, typed.

In: names, and what is to be sent. Out: a row, `Done`, a tuple of all rows of a listing, or a `Fault`. A listing is also
there page by page (`pages`). Names are the vendor's identifiers: where one is changed, the old one is gone.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp

from allocator.providers.edgegap.catalog.faults import Done, Fault, Refused
from allocator.providers.edgegap.catalog.rows import (
    Application,
    DeletedTag,
    ImageTag,
    Link,
    Profile,
    Storage,
    TagsDeleted,
    Version,
)
from allocator.providers.edgegap.catalog.sent import (
    ApplicationChange,
    NewApplication,
    NewProfile,
    NewStorage,
    NewVersion,
    ProfileChange,
    Sent,
    StorageChange,
    VersionChange,
)
from allocator.providers.edgegap.catalog.wire import Pause, Wire, collected, done, image_path, pause, read_reply
from allocator.providers.exchange import Exchange


class _Tags(Sent):
    tags: tuple[str, ...]


class Applications:
    """`/v1/app`, `/v1/apps`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def create(self, new: NewApplication) -> Application | Fault:
        """Make one; 409 where the name is taken."""
        return read_reply(Application, await self._wire.send("POST", new, "app"))

    async def get(self, name: str) -> Application | Fault:
        """Read one."""
        return await self._wire.read(Application, "app", name)

    async def update(self, name: str, change: ApplicationChange) -> Done | Fault:
        """Change what the change names."""
        return done(await self._wire.send("PATCH", change, "app", name))

    async def delete(self, name: str) -> Done | Fault:
        """Delete one and all its versions."""
        return done(await self._wire.send("DELETE", None, "app", name))

    def pages(self) -> AsyncIterator[tuple[Application, ...] | Fault]:
        """Every application of the organisation, page by page."""
        return self._wire.pages(Application, "applications", "apps")

    async def list(self) -> tuple[Application, ...] | Fault:
        """Every application of the organisation."""
        return await collected(self.pages())


class Versions:
    """`/v1/app/{app}/version`, `/v1/app/{app}/versions`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def create(self, application: str, new: NewVersion) -> Version | Fault:
        """Make one; 409 where the name is taken, 424 where `verify_image` found no image to pull."""
        return read_reply(Version, await self._wire.send("POST", new, "app", application, "version"), within="version")

    async def get(self, application: str, name: str) -> Version | Fault:
        """Read one."""
        return await self._wire.read(Version, "app", application, "version", name)

    async def update(self, application: str, name: str, change: VersionChange) -> Done | Fault:
        """Change what the change names."""
        return done(await self._wire.send("PATCH", change, "app", application, "version", name))

    async def delete(self, application: str, name: str) -> Done | Fault:
        """Delete one."""
        return done(await self._wire.send("DELETE", None, "app", application, "version", name))

    def pages(self, application: str) -> AsyncIterator[tuple[Version, ...] | Fault]:
        """Every version of an application, page by page."""
        # Described with pages in the answer and no parameters for them: only the number of a further page is sent.
        return self._wire.pages(Version, "versions", "app", application, "versions", takes_limit=False)

    async def list(self, application: str) -> tuple[Version, ...] | Fault:
        """Every version of an application."""
        return await collected(self.pages(application))


class ImageTags:
    """`/v1/container-registry/images/{image}/tags`; an image is `project/image`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def pages(self, image: str) -> AsyncIterator[tuple[ImageTag, ...] | Fault]:
        """Every tag of an image, page by page."""
        return self._wire.pages(ImageTag, "data", *_path(image))

    async def list(self, image: str) -> tuple[ImageTag, ...] | Fault:
        """Every tag of an image."""
        return await collected(self.pages(image))

    async def delete(self, image: str, tag: str) -> DeletedTag | Fault:
        """Delete a tag, and what it leads to once no other tag does."""
        return read_reply(DeletedTag, await self._wire.send("DELETE", None, *_path(image), tag))

    async def bulk_delete(self, image: str, tags: Sequence[str]) -> TagsDeleted | Fault:
        """Delete many tags; each has a result of its own (207)."""
        if not tags:
            return Refused(400, "no tag is named; name each that is to go")
        return read_reply(
            TagsDeleted, await self._wire.send("POST", _Tags(tags=tuple(tags)), *_path(image), "bulk-delete")
        )


class Storages:
    """`/v1/storage/endpoint`, `/v1/storage/endpoints`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def create(self, new: NewStorage) -> Storage | Fault:
        """Make one."""
        return read_reply(Storage, await self._wire.send("POST", new, "storage", "endpoint"))

    async def get(self, name: str) -> Storage | Fault:
        """Read one, without its secret."""
        return await self._wire.read(Storage, "storage", "endpoint", name)

    async def update(self, name: str, change: StorageChange) -> Done | Fault:
        """Change what the change names."""
        return done(await self._wire.send("PATCH", change, "storage", "endpoint", name))

    async def delete(self, name: str) -> Done | Fault:
        """Delete one: versions linked to it store no logs any more."""
        return done(await self._wire.send("DELETE", None, "storage", "endpoint", name))

    def pages(self) -> AsyncIterator[tuple[Storage, ...] | Fault]:
        """Every endpoint storage, page by page."""
        return self._wire.pages(Storage, "endpoints", "storage", "endpoints")

    async def list(self) -> tuple[Storage, ...] | Fault:
        """Every endpoint storage."""
        return await collected(self.pages())


class Profiles:
    """`/v1/storage/endpoint/{storage}/pull-profile`, and the links to versions below it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def create(self, storage: str, new: NewProfile) -> Profile | Fault:
        """Make one; a version uses it once they are linked."""
        return read_reply(Profile, await self._wire.send("POST", new, "storage", "endpoint", storage, "pull-profile"))

    async def get(self, storage: str, name: str) -> Profile | Fault:
        """Read one."""
        return await self._wire.read(Profile, *_profile(storage, name))

    async def update(self, storage: str, name: str, change: ProfileChange) -> Done | Fault:
        """Change what the change names."""
        return done(await self._wire.send("PATCH", change, *_profile(storage, name)))

    async def delete(self, storage: str, name: str) -> Done | Fault:
        """Delete one: versions linked to it pull nothing any more."""
        return done(await self._wire.send("DELETE", None, *_profile(storage, name)))

    def pages(self, storage: str) -> AsyncIterator[tuple[Profile, ...] | Fault]:
        """Every pull profile of a storage, page by page."""
        return self._wire.pages(Profile, "pull_profiles", "storage", "endpoint", storage, "pull-profiles")

    async def list(self, storage: str) -> tuple[Profile, ...] | Fault:
        """Every pull profile of a storage."""
        return await collected(self.pages(storage))

    async def link(self, storage: str, name: str, application: str, version: str) -> Link | Fault:
        """Let a version use it; the same again changes nothing."""
        path = (*_profile(storage, name), "app", application, "version", version)
        return read_reply(Link, await self._wire.send("PUT", None, *path))

    async def unlink(self, storage: str, name: str, application: str, version: str) -> Done | Fault:
        """Let a version use it no more; 404 where it did not."""
        return done(
            await self._wire.send("DELETE", None, *_profile(storage, name), "app", application, "version", version)
        )


class Catalog:
    """The catalogue of one organisation; `token` gives the token of the moment."""

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        connector: aiohttp.BaseConnector | None = None,
        pause: Pause = pause,
        chance: random.Random | None = None,
    ) -> None:
        """Use the given connector, which stays its owner's, or make one; inside a running loop."""
        self.base_url = base_url
        exchange = Exchange(token, connector, scheme="token")
        chance = chance or random.Random()  # noqa: S311 - jitter, not secrets
        self._wire = Wire(base_url, exchange, token, pause=pause, chance=chance)
        self.applications = Applications(self._wire)
        self.versions = Versions(self._wire)
        self.tags = ImageTags(self._wire)
        self.storages = Storages(self._wire)
        self.profiles = Profiles(self._wire)

    async def close(self) -> None:
        """Give the connections back."""
        await self._wire.close()


def _path(image: str) -> tuple[str, ...]:
    return ("container-registry", "images", *image_path(image), "tags")


def _profile(storage: str, name: str) -> tuple[str, ...]:
    return ("storage", "endpoint", storage, "pull-profile", name)
