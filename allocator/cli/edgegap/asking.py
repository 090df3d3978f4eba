"""What the verbs of `allocator edgegap` have in common: the catalogue that the settings name, faults, rows on a screen.

In: a question over a catalogue, which `verb` makes a command. Out: its exit code; 1 where Edgegap refused, 2 for usage,
settings or the file, 3 where Edgegap cannot be reached or did not answer whole. Promises: a fault is one line on stderr
in the vendor's words; no secret and no control character reaches the terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, TypeVar

import typer

from allocator.cli.asking import EXIT_FAILURE, EXIT_REDIS, EXIT_USAGE, complain, json_line, printable
from allocator.cli.options import ConfigOption, SetOption, load_or_exit

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog
    from allocator.providers.edgegap.catalog.faults import Fault
    from allocator.providers.edgegap.catalog.rows import Row

    Question = TypeVar("Question", bound=Callable[Concatenate[Catalog, ...], Coroutine[Any, Any, int]])

EXIT_CHANGES = 4
EXIT_UNREACHABLE = EXIT_REDIS
WIDTH_PIPED = 1000

ApplicationArgument = Annotated[str, typer.Argument(metavar="APPLICATION", help="The application's name.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The version's name.")]
StorageArgument = Annotated[str, typer.Argument(metavar="STORAGE", help="The endpoint storage's name.")]
ProfileArgument = Annotated[str, typer.Argument(metavar="PROFILE", help="The pull profile's name.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The TOML file that declares the catalogue.")]
ReplaceActiveOption = Annotated[
    bool, typer.Option("--replace-active", help="Also change the image of a version that is active.")
]
_SETTINGS = (
    Parameter("config", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=ConfigOption),
    Parameter("assignments", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=SetOption),
)


def verb(app: typer.Typer, name: str | None = None) -> Callable[[Question], Question]:
    """Make a question over the catalogue a verb of `app`: its parameters, and the options that name the settings."""

    def make(question: Question) -> Question:
        app.command(name)(_command(question))
        return question

    return make


def fail(fault: Fault) -> int:
    """Say a fault, and give the exit code that it means."""
    from allocator.providers.edgegap.catalog.faults import Refused

    refused_token = isinstance(fault, Refused) and fault.status in (401, 403)
    complain(f"{fault}{'; check edgegap.token' if refused_token else ''}")
    return code_of(fault)


def code_of(fault: Fault) -> int:
    """The exit code that a fault means."""
    from allocator.providers.edgegap.catalog.faults import Refused

    return EXIT_FAILURE if isinstance(fault, Refused) else EXIT_UNREACHABLE


def tell(done: object, sentence: str) -> int:
    """Say that it is done, or the fault."""
    from allocator.providers.edgegap.catalog.faults import Fault

    if isinstance(done, Fault):
        return fail(done)
    typer.echo(printable(sentence))
    return 0


def show_row(found: Row | Fault, *, as_json: bool) -> int:
    """One row: a line for each field that the vendor tells."""
    from allocator.providers.edgegap.catalog.faults import Fault
    from allocator.providers.edgegap.catalog.rows import shown

    if isinstance(found, Fault):
        return fail(found)
    fields = shown(found)
    if as_json:
        typer.echo(json_line(fields))
        return 0
    for name, value in fields.items():
        if value is not None:
            typer.echo(printable(f"{name}: {_text(name, value)}"))
    return 0


def show_rows(found: Sequence[Row] | Fault, columns: Sequence[str], *, as_json: bool) -> int:
    """Many rows: a table of these fields, or all of each as one JSON list."""
    from allocator.providers.edgegap.catalog.faults import Fault
    from allocator.providers.edgegap.catalog.rows import shown

    if isinstance(found, Fault):
        return fail(found)
    rows = [shown(each) for each in found]
    if as_json:
        typer.echo(json_line(rows))
    elif rows:
        print_table(columns, ([_text(name, _at(row, name)) for name in columns] for row in rows))
    else:
        typer.echo("none")
    return 0


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table without lines; piped, a row stays on its line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_PIPED
    table = Table(*(column.rpartition(".")[2] for column in columns), box=None, pad_edge=False)
    for row in rows:
        # As Text: brackets in a name must not be read as markup.
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    console.print(table)


def _command(question: Callable[Concatenate[Catalog, ...], Coroutine[Any, Any, int]]) -> Callable[..., None]:
    @wraps(question)
    def command(config: Path | None, assignments: Sequence[str] | None, **asked: Any) -> None:
        _ask(lambda catalog: question(catalog, **asked), config, assignments)

    # Typer reads a command by its signature. The catalogue's module is loaded when a verb runs; here it is any object.
    read = signature(question, eval_str=True, locals={"Catalog": object})
    _catalog, *own = read.parameters.values()
    first = [each for each in own if each.kind is not Parameter.KEYWORD_ONLY]
    parameters = (*first, *_SETTINGS, *own[len(first) :])
    command.__dict__["__signature__"] = read.replace(parameters=parameters, return_annotation=None)
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _ask(
    question: Callable[[Catalog], Coroutine[Any, Any, int]], config: Path | None, assignments: Sequence[str] | None
) -> None:
    """Ask the organisation whose token is in the settings, and exit with what that gives."""
    from allocator.providers.credential import CredentialError
    from allocator.service.edgegap.access import open_catalog
    from allocator.service.edgegap.declared_file import DeclaredError
    from allocator.service.edgegap.references import MissingSecret

    settings = load_or_exit(config, assignments, require=frozenset())

    async def asked() -> int:
        catalog = open_catalog(settings, complain)
        try:
            return await question(catalog)
        finally:
            await catalog.close()

    try:
        code = asyncio.run(asked())
    except CredentialError as error:
        complain(str(error))
        code = EXIT_USAGE
    except (DeclaredError, MissingSecret) as error:
        for fault in error.faults:
            complain(fault)
        code = EXIT_USAGE
    if code:
        raise typer.Exit(code)


def _at(row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(name: str, value: Any) -> str:
    if name == "image" and isinstance(value, str) and value:
        return f"a picture of {len(value) * 3 // 4} bytes"
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case _:
            return json_line(value)
