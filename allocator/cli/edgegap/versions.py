"""`allocator edgegap versions`: versions of an application, one operation a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from allocator.cli.asking import EXIT_FAILURE, complain
from allocator.cli.edgegap.asking import (
    ApplicationArgument,
    ReplaceActiveOption,
    VersionArgument,
    fail,
    show_row,
    show_rows,
    tell,
    verb,
)
from allocator.cli.edgegap.fields import WithOption, some, vault_of, whole
from allocator.cli.options import JsonOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog
    from allocator.providers.edgegap.catalog.rows import Version

COLUMNS = (
    *("name", "is_active", "docker_repository", "docker_image", "docker_tag"),
    *("req_cpu", "req_memory", "caching_percent"),
)
app = typer.Typer(help="Versions of an application.", no_args_is_help=True, rich_markup_mode=None)


@verb(app, "list")
async def list_(catalog: Catalog, application: ApplicationArgument, *, as_json: JsonOption = False) -> int:
    """List every version of an application."""
    return show_rows(await catalog.versions.list(application), COLUMNS, as_json=as_json)


@verb(app)
async def show(
    catalog: Catalog, application: ApplicationArgument, version: VersionArgument, *, as_json: JsonOption = False
) -> int:
    """Show one version."""
    return show_row(await catalog.versions.get(application, version), as_json=as_json)


@verb(app)
async def create(
    catalog: Catalog, application: ApplicationArgument, version: VersionArgument, fields: WithOption = None
) -> int:
    """Create a version; it needs docker_repository, docker_image, docker_tag, req_cpu and req_memory."""
    from allocator.service.edgegap.bodies import new_version
    from allocator.service.edgegap.declared import DeclaredVersion

    declared = whole(DeclaredVersion, fields)
    vault = vault_of(value for _, value in declared)
    made = await catalog.versions.create(application, new_version(version, declared, vault))
    return tell(made, f"created version {application}/{version}")


@verb(app)
async def update(
    catalog: Catalog,
    application: ApplicationArgument,
    version: VersionArgument,
    fields: WithOption = None,
    *,
    replace_active: ReplaceActiveOption = False,
) -> int:
    """Change fields of a version; its cpu, memory and GPU cannot be changed, and ports and envs are whole."""
    from allocator.providers.edgegap.catalog.faults import Fault
    from allocator.providers.edgegap.catalog.sent import VersionChange
    from allocator.service.edgegap.bodies import values_to_send
    from allocator.service.edgegap.declared import DeclaredVersion

    values = some(DeclaredVersion, fields)
    there = await catalog.versions.get(application, version)
    if isinstance(there, Fault):
        return fail(there)
    if (refusal := _refusal(values, there, replace_active=replace_active)) is not None:
        complain(f"version {application}/{version}: {refusal}")
        return EXIT_FAILURE
    change = VersionChange(**values_to_send(values, vault_of(values.values())))
    changed = await catalog.versions.update(application, version, change)
    return tell(changed, f"changed version {application}/{version}")


@verb(app)
async def delete(catalog: Catalog, application: ApplicationArgument, version: VersionArgument) -> int:
    """Delete a version."""
    return tell(await catalog.versions.delete(application, version), f"deleted version {application}/{version}")


def _refusal(values: dict[str, Any], there: Version, *, replace_active: bool) -> str | None:
    from allocator.service.edgegap.compare import FIXED_FIELDS, IMAGE_FIELDS

    fixed = [name for name in FIXED_FIELDS if name in values]
    if fixed:
        return f"{fixed[0]} cannot be changed; create a version with another name"
    image = [name for name in IMAGE_FIELDS if name in values and values[name] != getattr(there, name)]
    if image and there.is_active is not False and not replace_active:
        return (
            f"is active, and its {image[0]} would be another; create a version with another name, "
            "or allow it with --replace-active"
        )
    return None
