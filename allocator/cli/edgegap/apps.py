"""`allocator edgegap apps`: applications, one operation a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from allocator.cli.edgegap.asking import ApplicationArgument, show_row, show_rows, tell, verb
from allocator.cli.edgegap.fields import WithOption, some, whole
from allocator.cli.options import JsonOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog

COLUMNS = ("name", "is_active", "create_time", "last_updated")
app = typer.Typer(help="Applications.", no_args_is_help=True, rich_markup_mode=None)


@verb(app, "list")
async def list_(catalog: Catalog, *, as_json: JsonOption = False) -> int:
    """List every application of the organisation."""
    return show_rows(await catalog.applications.list(), COLUMNS, as_json=as_json)


@verb(app)
async def show(catalog: Catalog, application: ApplicationArgument, *, as_json: JsonOption = False) -> int:
    """Show one application."""
    return show_row(await catalog.applications.get(application), as_json=as_json)


@verb(app)
async def create(catalog: Catalog, application: ApplicationArgument, fields: WithOption = None) -> int:
    """Create an application; fields are is_active and image."""
    from allocator.service.edgegap.bodies import new_application
    from allocator.service.edgegap.declared import DeclaredApplication

    declared = whole(DeclaredApplication, fields)
    made = await catalog.applications.create(new_application(application, declared))
    return tell(made, f"created application {application}")


@verb(app)
async def update(catalog: Catalog, application: ApplicationArgument, fields: WithOption = None) -> int:
    """Change fields of an application: is_active, image."""
    from allocator.providers.edgegap.catalog.sent import ApplicationChange
    from allocator.service.edgegap.declared import DeclaredApplication

    change = ApplicationChange(**some(DeclaredApplication, fields))
    changed = await catalog.applications.update(application, change)
    return tell(changed, f"changed application {application}")


@verb(app)
async def delete(catalog: Catalog, application: ApplicationArgument) -> int:
    """Delete an application and all its versions."""
    return tell(await catalog.applications.delete(application), f"deleted application {application}")
