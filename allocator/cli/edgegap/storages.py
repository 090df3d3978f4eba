"""`allocator edgegap storages`: endpoint storages, one operation a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from allocator.cli.edgegap.asking import StorageArgument, show_row, show_rows, tell, verb
from allocator.cli.edgegap.fields import WithOption, some, vault_of, whole
from allocator.cli.options import JsonOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog

COLUMNS = ("name", "endpoint", "bucket", "access_key_id", "output_format")
app = typer.Typer(help="Endpoint storages.", no_args_is_help=True, rich_markup_mode=None)


@verb(app, "list")
async def list_(catalog: Catalog, *, as_json: JsonOption = False) -> int:
    """List every endpoint storage; secrets are never told."""
    return show_rows(await catalog.storages.list(), COLUMNS, as_json=as_json)


@verb(app)
async def show(catalog: Catalog, storage: StorageArgument, *, as_json: JsonOption = False) -> int:
    """Show one endpoint storage, without its secret."""
    return show_row(await catalog.storages.get(storage), as_json=as_json)


@verb(app)
async def create(catalog: Catalog, storage: StorageArgument, fields: WithOption = None) -> int:
    """Create an endpoint storage; it needs endpoint, bucket, access_key_id and secret_access_key."""
    from allocator.service.edgegap.bodies import new_storage
    from allocator.service.edgegap.declared import DeclaredStorage

    declared = whole(DeclaredStorage, fields)
    vault = vault_of(value for _, value in declared)
    return tell(await catalog.storages.create(new_storage(storage, declared, vault)), f"created storage {storage}")


@verb(app)
async def update(catalog: Catalog, storage: StorageArgument, fields: WithOption = None) -> int:
    """Change fields of an endpoint storage."""
    from allocator.providers.edgegap.catalog.sent import StorageChange
    from allocator.service.edgegap.bodies import values_to_send
    from allocator.service.edgegap.declared import DeclaredStorage

    values = some(DeclaredStorage, fields)
    change = StorageChange(**values_to_send(values, vault_of(values.values())))
    return tell(await catalog.storages.update(storage, change), f"changed storage {storage}")


@verb(app)
async def delete(catalog: Catalog, storage: StorageArgument) -> int:
    """Delete an endpoint storage; versions linked to it store no logs any more."""
    return tell(await catalog.storages.delete(storage), f"deleted storage {storage}")
