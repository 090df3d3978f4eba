"""What is in the catalogue now.

In: the catalogue. Out: every application, version, storage and pull profile of the organisation, or the fault that kept
one of them from being read: half a picture is none. Links cannot be read: the vendor has no call for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from allocator.providers.edgegap.catalog.client import Catalog
from allocator.providers.edgegap.catalog.faults import Fault, Refused
from allocator.providers.edgegap.catalog.rows import Application, Profile, Storage, Version

READS_AT_ONCE = 4
T = TypeVar("T", Profile, Version)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is there, by name; a version by application and name, a pull profile by storage and name."""

    applications: Mapping[str, Application]
    versions: Mapping[tuple[str, str], Version]
    storages: Mapping[str, Storage]
    profiles: Mapping[tuple[str, str], Profile]


async def read_snapshot(catalog: Catalog) -> Snapshot | Fault:
    """Read all of it, with a few calls at once."""
    storages = await catalog.storages.list()
    if isinstance(storages, Fault):
        return storages
    applications = await catalog.applications.list()
    if isinstance(applications, Fault):
        return applications
    profiles = await _below((each.name for each in storages), catalog.profiles.list)
    if isinstance(profiles, Fault):
        return profiles
    versions = await _below((each.name for each in applications), catalog.versions.list)
    if isinstance(versions, Fault):
        return versions
    return Snapshot(
        applications={each.name: each for each in applications},
        versions=versions,
        storages={each.name: each for each in storages},
        profiles=profiles,
    )


async def _below(
    names: Iterable[str], read: Callable[[str], Awaitable[tuple[T, ...] | Fault]]
) -> dict[tuple[str, str], T] | Fault:
    limit = asyncio.Semaphore(READS_AT_ONCE)

    async def one(name: str) -> tuple[str, tuple[T, ...] | Fault]:
        async with limit:
            return name, await read(name)

    found: dict[tuple[str, str], T] = {}
    for above, rows in await asyncio.gather(*(one(name) for name in names)):
        if isinstance(rows, Refused) and rows.status == 404:
            continue  # what it stood below has gone since it was listed
        if isinstance(rows, Fault):
            return rows
        found |= {(above, each.name): each for each in rows}
    return found
