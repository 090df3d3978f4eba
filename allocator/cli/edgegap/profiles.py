"""`allocator edgegap profiles`: pull profiles of a storage and their links to versions, one operation a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from allocator.cli.edgegap.asking import (
    ApplicationArgument,
    ProfileArgument,
    StorageArgument,
    VersionArgument,
    show_row,
    show_rows,
    tell,
    verb,
)
from allocator.cli.edgegap.fields import WithOption, some, whole
from allocator.cli.options import JsonOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog

COLUMNS = ("name", "source", "source_type", "destination")
app = typer.Typer(help="Pull profiles and their links to versions.", no_args_is_help=True, rich_markup_mode=None)


@verb(app, "list")
async def list_(catalog: Catalog, storage: StorageArgument, *, as_json: JsonOption = False) -> int:
    """List every pull profile of a storage."""
    return show_rows(await catalog.profiles.list(storage), COLUMNS, as_json=as_json)


@verb(app)
async def show(
    catalog: Catalog, storage: StorageArgument, profile: ProfileArgument, *, as_json: JsonOption = False
) -> int:
    """Show one pull profile."""
    return show_row(await catalog.profiles.get(storage, profile), as_json=as_json)


@verb(app)
async def create(
    catalog: Catalog, storage: StorageArgument, profile: ProfileArgument, fields: WithOption = None
) -> int:
    """Create a pull profile; it needs source, source_type (File or Folder) and destination."""
    from allocator.service.edgegap.bodies import new_profile
    from allocator.service.edgegap.declared import DeclaredProfile

    new = new_profile(profile, whole(DeclaredProfile, fields))
    return tell(await catalog.profiles.create(storage, new), f"created profile {storage}/{profile}")


@verb(app)
async def update(
    catalog: Catalog, storage: StorageArgument, profile: ProfileArgument, fields: WithOption = None
) -> int:
    """Change fields of a pull profile."""
    from allocator.providers.edgegap.catalog.sent import ProfileChange
    from allocator.service.edgegap.declared import DeclaredProfile

    change = ProfileChange(**some(DeclaredProfile, fields))
    return tell(await catalog.profiles.update(storage, profile, change), f"changed profile {storage}/{profile}")


@verb(app)
async def delete(catalog: Catalog, storage: StorageArgument, profile: ProfileArgument) -> int:
    """Delete a pull profile; versions linked to it pull nothing any more."""
    return tell(await catalog.profiles.delete(storage, profile), f"deleted profile {storage}/{profile}")


@verb(app)
async def link(
    catalog: Catalog,
    storage: StorageArgument,
    profile: ProfileArgument,
    application: ApplicationArgument,
    version: VersionArgument,
) -> int:
    """Let a version use a pull profile."""
    linked = await catalog.profiles.link(storage, profile, application, version)
    return tell(linked, f"linked {application}/{version} to {storage}/{profile}")


@verb(app)
async def unlink(
    catalog: Catalog,
    storage: StorageArgument,
    profile: ProfileArgument,
    application: ApplicationArgument,
    version: VersionArgument,
) -> int:
    """Let a version use a pull profile no more."""
    unlinked = await catalog.profiles.unlink(storage, profile, application, version)
    return tell(unlinked, f"unlinked {application}/{version} from {storage}/{profile}")
