"""`allocator edgegap storages`: endpoint storages, one operation a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from allocator.cli.edgegap.asking import StorageArgument, ask_catalog, show_row, show_rows, tell
from allocator.cli.edgegap.fields import WithOption, some, vault_of, whole
from allocator.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog

COLUMNS = ("name", "endpoint", "bucket", "access_key_id", "output_format")
app = typer.Typer(help="Endpoint storages.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(config: ConfigOption = None, assignments: SetOption = None, *, as_json: JsonOption = False) -> None:
    """List every endpoint storage; secrets are never told."""

    async def ask(catalog: Catalog) -> int:
        return show_rows(await catalog.storages.list(), COLUMNS, as_json=as_json)

    ask_catalog(ask, config, assignments)


@app.command()
def show(
    storage: StorageArgument, config: ConfigOption = None, assignments: SetOption = None, *, as_json: JsonOption = False
) -> None:
    """Show one endpoint storage, without its secret."""

    async def ask(catalog: Catalog) -> int:
        return show_row(await catalog.storages.get(storage), as_json=as_json)

    ask_catalog(ask, config, assignments)


@app.command()
def create(
    storage: StorageArgument, fields: WithOption = None, config: ConfigOption = None, assignments: SetOption = None
) -> None:
    """Create an endpoint storage; it needs endpoint, bucket, access_key_id and secret_access_key."""

    async def ask(catalog: Catalog) -> int:
        from allocator.service.edgegap.bodies import new_storage
        from allocator.service.edgegap.declared import DeclaredStorage

        declared = whole(DeclaredStorage, fields)
        vault = vault_of(value for _, value in declared)
        return tell(await catalog.storages.create(new_storage(storage, declared, vault)), f"created storage {storage}")

    ask_catalog(ask, config, assignments)


@app.command()
def update(
    storage: StorageArgument, fields: WithOption = None, config: ConfigOption = None, assignments: SetOption = None
) -> None:
    """Change fields of an endpoint storage."""

    async def ask(catalog: Catalog) -> int:
        from allocator.providers.edgegap.catalog.sent import StorageChange
        from allocator.service.edgegap.bodies import values_to_send
        from allocator.service.edgegap.declared import DeclaredStorage

        values = some(DeclaredStorage, fields)
        change = StorageChange(**values_to_send(values, vault_of(values.values())))
        return tell(await catalog.storages.update(storage, change), f"changed storage {storage}")

    ask_catalog(ask, config, assignments)


@app.command()
def delete(storage: StorageArgument, config: ConfigOption = None, assignments: SetOption = None) -> None:
    """Delete an endpoint storage; versions linked to it store no logs any more."""

    async def ask(catalog: Catalog) -> int:
        return tell(await catalog.storages.delete(storage), f"deleted storage {storage}")

    ask_catalog(ask, config, assignments)
