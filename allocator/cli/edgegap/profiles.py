"""`allocator edgegap profiles`: pull profiles of a storage and their links to versions, one operation a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from allocator.cli.edgegap.asking import (
    ApplicationArgument,
    ProfileArgument,
    StorageArgument,
    VersionArgument,
    ask_catalog,
    show_row,
    show_rows,
    tell,
)
from allocator.cli.edgegap.fields import WithOption, some, whole
from allocator.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog

COLUMNS = ("name", "source", "source_type", "destination")
app = typer.Typer(help="Pull profiles and their links to versions.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(
    storage: StorageArgument, config: ConfigOption = None, assignments: SetOption = None, *, as_json: JsonOption = False
) -> None:
    """List every pull profile of a storage."""

    async def ask(catalog: Catalog) -> int:
        return show_rows(await catalog.profiles.list(storage), COLUMNS, as_json=as_json)

    ask_catalog(ask, config, assignments)


@app.command()
def show(
    storage: StorageArgument,
    profile: ProfileArgument,
    config: ConfigOption = None,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one pull profile."""

    async def ask(catalog: Catalog) -> int:
        return show_row(await catalog.profiles.get(storage, profile), as_json=as_json)

    ask_catalog(ask, config, assignments)


@app.command()
def create(
    storage: StorageArgument,
    profile: ProfileArgument,
    fields: WithOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Create a pull profile; it needs source, source_type (File or Folder) and destination."""

    async def ask(catalog: Catalog) -> int:
        from allocator.service.edgegap.bodies import new_profile
        from allocator.service.edgegap.declared import DeclaredProfile

        new = new_profile(profile, whole(DeclaredProfile, fields))
        return tell(await catalog.profiles.create(storage, new), f"created profile {storage}/{profile}")

    ask_catalog(ask, config, assignments)


@app.command()
def update(
    storage: StorageArgument,
    profile: ProfileArgument,
    fields: WithOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Change fields of a pull profile."""

    async def ask(catalog: Catalog) -> int:
        from allocator.providers.edgegap.catalog.sent import ProfileChange
        from allocator.service.edgegap.declared import DeclaredProfile

        change = ProfileChange(**some(DeclaredProfile, fields))
        return tell(await catalog.profiles.update(storage, profile, change), f"changed profile {storage}/{profile}")

    ask_catalog(ask, config, assignments)


@app.command()
def delete(
    storage: StorageArgument, profile: ProfileArgument, config: ConfigOption = None, assignments: SetOption = None
) -> None:
    """Delete a pull profile; versions linked to it pull nothing any more."""

    async def ask(catalog: Catalog) -> int:
        return tell(await catalog.profiles.delete(storage, profile), f"deleted profile {storage}/{profile}")

    ask_catalog(ask, config, assignments)


@app.command()
def link(
    storage: StorageArgument,
    profile: ProfileArgument,
    application: ApplicationArgument,
    version: VersionArgument,
    *,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Let a version use a pull profile."""

    async def ask(catalog: Catalog) -> int:
        linked = await catalog.profiles.link(storage, profile, application, version)
        return tell(linked, f"linked {application}/{version} to {storage}/{profile}")

    ask_catalog(ask, config, assignments)


@app.command()
def unlink(
    storage: StorageArgument,
    profile: ProfileArgument,
    application: ApplicationArgument,
    version: VersionArgument,
    *,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Let a version use a pull profile no more."""

    async def ask(catalog: Catalog) -> int:
        unlinked = await catalog.profiles.unlink(storage, profile, application, version)
        return tell(unlinked, f"unlinked {application}/{version} from {storage}/{profile}")

    ask_catalog(ask, config, assignments)
