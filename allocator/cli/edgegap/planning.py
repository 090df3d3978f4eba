"""`allocator edgegap plan`, `apply`, `export`: the catalogue as one file.

In: the file that declares it. Out: a diff (`+` made, `~` changed, `-` deleted, `=` links, which cannot be read), or one
JSON object. Exit of plan: 0 there is one (4 where it has changes and `--exit-code` asks), 1 it cannot be made so as the
file stands, 2 the file or the settings, 3 Edgegap cannot be reached. Exit of apply: 0 it is as declared now, 1, 2, 3 as
before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allocator.cli.asking import EXIT_FAILURE, complain, json_line, printable
from allocator.cli.edgegap.asking import EXIT_CHANGES, FileArgument, ReplaceActiveOption, code_of, fail
from allocator.cli.options import JsonOption

if TYPE_CHECKING:
    from allocator.providers.edgegap.catalog.client import Catalog
    from allocator.service.edgegap.plan import Allowed
    from allocator.service.edgegap.steps import Difference, Plan, Step

UNDECLARED_SHOWN = 10
PruneOption = Annotated[bool, typer.Option("--prune", help="Also delete what is there and not in the file.")]
WriteSecretsOption = Annotated[
    bool,
    typer.Option("--write-secrets", help="Write every secret again; whether one is another cannot be seen."),
]


async def plan(
    catalog: Catalog,
    file: FileArgument,
    *,
    prune: PruneOption = False,
    replace_active: ReplaceActiveOption = False,
    write_secrets: WriteSecretsOption = False,
    tells_changes: Annotated[bool, typer.Option("--exit-code", help="Exit 4 where there are changes.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Show what apply would change. Exits 1 where it cannot be done."""
    from allocator.service.edgegap.plan import Allowed
    from allocator.service.edgegap.steps import facts

    made = await _plan(catalog, file, Allowed(prune, replace_active, write_secrets))
    if isinstance(made, int):
        return made
    if as_json:
        typer.echo(json_line(facts(made)))
    else:
        _print(made)
    if made.refusals:
        return EXIT_FAILURE
    return EXIT_CHANGES if made.changes and tells_changes else 0


async def apply(
    catalog: Catalog,
    file: FileArgument,
    *,
    prune: PruneOption = False,
    replace_active: ReplaceActiveOption = False,
    write_secrets: WriteSecretsOption = False,
) -> int:
    """Make the catalogue as the file declares it. It can be repeated, and goes on where it was interrupted."""
    from allocator.service.edgegap.apply import Applied, apply_plan
    from allocator.service.edgegap.plan import Allowed
    from allocator.service.edgegap.references import open_vault

    made = await _plan(catalog, file, Allowed(prune, replace_active, write_secrets))
    if isinstance(made, int):
        return made
    _print(made)
    if made.refusals:
        complain("nothing was done")
        return EXIT_FAILURE
    vault = open_vault(made.references, os.environ, file.parent)
    ended = await apply_plan(catalog, made, vault, _tell)
    if isinstance(ended, Applied):
        typer.echo("the catalogue is as declared")
        return 0
    complain(str(ended))
    return code_of(ended.fault)


async def export(catalog: Catalog) -> int:
    """Print the file that declares what is there now; secrets are references to fill in."""
    from allocator.providers.edgegap.catalog.faults import Fault
    from allocator.service.edgegap.export import export as text_of
    from allocator.service.edgegap.snapshot import read_snapshot

    there = await read_snapshot(catalog)
    if isinstance(there, Fault):
        return fail(there)
    typer.echo(text_of(there), nl=False)
    return 0


async def _plan(catalog: Catalog, file: Path, allowed: Allowed) -> Plan | int:
    """The plan, or the exit code of what kept it from being made."""
    from allocator.providers.edgegap.catalog.faults import Fault
    from allocator.service.edgegap.declared_file import load_declared
    from allocator.service.edgegap.plan import make_plan
    from allocator.service.edgegap.snapshot import read_snapshot

    declared = load_declared(file)
    there = await read_snapshot(catalog)
    return fail(there) if isinstance(there, Fault) else make_plan(declared, there, allowed)


_STYLES = {"+": "green", "~": "yellow", "-": "red", "=": "dim", "!": "bold red"}


def _print(made: Plan) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for sign, line in _lines(made):
        # As Text: brackets in a value must not be read as markup.
        console.print(Text(printable(line), style=_STYLES.get(sign, "")), soft_wrap=True)


def _lines(made: Plan) -> Iterator[tuple[str, str]]:
    """Each line of the diff behind its sign."""
    for step in made.steps:
        yield step.act.sign, _headline(step)
        for each in step.differences:
            sign = "~" if each.before is not None and each.after is not None else "-" if each.after is None else "+"
            yield sign, f"    {sign} {_difference(each)}"
    for refusal in made.refusals:
        yield "!", f"! {refusal}"
    if made.undeclared:
        names = ", ".join(str(item) for item in made.undeclared[:UNDECLARED_SHOWN])
        more = len(made.undeclared) - UNDECLARED_SHOWN
        yield "", f"not in the file, left alone (--prune deletes): {names}{f' and {more} more' if more > 0 else ''}"
    yield "", _sum(made)


def _headline(step: Step) -> str:
    from allocator.service.edgegap.steps import Act

    words = {
        Act.ASSURE: "cannot be read: apply puts it, which changes nothing where it is",
        Act.UNLINK: "not in the file: apply takes it away where it is",
    }
    remark = step.remark or words.get(step.act, "")
    return f"{step.act.sign} {step.item}{f'   {remark}' if remark else ''}"


def _difference(each: Difference) -> str:
    remark = f"   {each.remark}" if each.remark else ""
    match each.before, each.after:
        case None, after:
            return f"{each.name}: {after}{remark}"
        case before, None:
            return f"{each.name}: {before}{remark}"
        case before, after:
            return f"{each.name}: {before} -> {after}{remark}"


def _sum(made: Plan) -> str:
    from allocator.service.edgegap.steps import Act

    if not made.changes and not made.refusals:
        return "no changes: the catalogue is as declared"
    counts = {act: sum(step.act is act for step in made.steps) for act in Act}
    return f"{counts[Act.CREATE]} to create, {counts[Act.CHANGE]} to change, {counts[Act.DELETE]} to delete"


def _tell(step: Step) -> None:
    if step.act.is_change:
        typer.echo(printable(f"done: {step.act.sign} {step.item}"))
