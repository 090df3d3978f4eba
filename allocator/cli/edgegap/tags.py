"""`allocator edgegap tags`: tags of an image in Edgegap's registry; `tags IMAGE` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from allocator.cli.asking import EXIT_FAILURE, json_line, printable
from allocator.cli.edgegap.asking import fail, show_rows, tell, verb
from allocator.cli.options import JsonOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog

COLUMNS = ("tag", "last_push_at", "artifact.size_mb", "artifact.image_hash")
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="The image, as PROJECT/IMAGE.")]


class _ListsByDefault(TyperGroup):
    """Reads `tags IMAGE` as `tags list IMAGE`; an image that is called as a verb is: `tags list delete`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb in where the first word is none."""
        if args and args[0] != "--help" and args[0] not in self.commands:
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ListsByDefault, help="Tags of an image: tags IMAGE lists them.", no_args_is_help=True, rich_markup_mode=None
)


@verb(app, "list")
async def list_(catalog: Catalog, image: ImageArgument, *, as_json: JsonOption = False) -> int:
    """List every tag of an image."""
    return show_rows(await catalog.tags.list(image), COLUMNS, as_json=as_json)


@verb(app)
async def delete(
    catalog: Catalog, image: ImageArgument, tag: Annotated[str, typer.Argument(metavar="TAG", help="The tag.")]
) -> int:
    """Delete a tag, and the image behind it once no other tag leads there."""
    return tell(await catalog.tags.delete(image, tag), f"deleted tag {image}:{tag}")


@verb(app)
async def bulk_delete(
    catalog: Catalog,
    image: ImageArgument,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="The tags.")],
    *,
    as_json: JsonOption = False,
) -> int:
    """Delete many tags in one call; each has a result of its own. Exits 1 where one could not be deleted."""
    from allocator.providers.edgegap.catalog.faults import Fault

    deleted = await catalog.tags.bulk_delete(image, tags)
    if isinstance(deleted, Fault):
        return fail(deleted)
    if as_json:
        typer.echo(json_line([each.model_dump() for each in deleted.results]))
    else:
        words = {200: "deleted", 204: "deleted", 404: "not there"}
        for each in deleted.results:
            says = f": {each.message}" if each.message else ""
            typer.echo(printable(f"{each.tag}  {words.get(each.status, f'failed ({each.status})')}{says}"))
    return EXIT_FAILURE if deleted.failed else 0
