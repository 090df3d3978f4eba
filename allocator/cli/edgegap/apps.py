"""`allocator edgegap apps`: applications, one operation a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from allocator.cli.edgegap.asking import ApplicationArgument, ask_catalog, show_row, show_rows, tell
from allocator.cli.edgegap.fields import WithOption, some, whole
from allocator.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog

COLUMNS = ("name", "is_active", "create_time", "last_updated")
app = typer.Typer(help="Applications.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(config: ConfigOption = None, assignments: SetOption = None, *, as_json: JsonOption = False) -> None:
    """List every application of the organisation."""

    async def ask(catalog: Catalog) -> int:
        return show_rows(await catalog.applications.list(), COLUMNS, as_json=as_json)

    ask_catalog(ask, config, assignments)


@app.command()
def show(
    application: ApplicationArgument,
    config: ConfigOption = None,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one application."""

    async def ask(catalog: Catalog) -> int:
        return show_row(await catalog.applications.get(application), as_json=as_json)

    ask_catalog(ask, config, assignments)


@app.command()
def create(
    application: ApplicationArgument,
    fields: WithOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Create an application; fields are is_active and image."""

    async def ask(catalog: Catalog) -> int:
        from allocator.service.edgegap.bodies import new_application
        from allocator.service.edgegap.declared import DeclaredApplication

        declared = whole(DeclaredApplication, fields)
        made = await catalog.applications.create(new_application(application, declared))
        return tell(made, f"created application {application}")

    ask_catalog(ask, config, assignments)


@app.command()
def update(
    application: ApplicationArgument,
    fields: WithOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Change fields of an application: is_active, image."""

    async def ask(catalog: Catalog) -> int:
        from allocator.providers.edgegap.catalog.sent import ApplicationChange
        from allocator.service.edgegap.declared import DeclaredApplication

        change = ApplicationChange(**some(DeclaredApplication, fields))
        changed = await catalog.applications.update(application, change)
        return tell(changed, f"changed application {application}")

    ask_catalog(ask, config, assignments)


@app.command()
def delete(application: ApplicationArgument, config: ConfigOption = None, assignments: SetOption = None) -> None:
    """Delete an application and all its versions."""

    async def ask(catalog: Catalog) -> int:
        return tell(await catalog.applications.delete(application), f"deleted application {application}")

    ask_catalog(ask, config, assignments)
