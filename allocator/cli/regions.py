"""`allocator regions`: how each destination stands, and the levers on a region: `drain`, `resume`, `set`.

In: the settings that the workers have, a region's name. Out: a table of what is in force now, or one JSON object; so
does each verb once its lever is set. A name that leads nowhere is refused with the nearest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer

from allocator.cli.asking import EXIT_USAGE, complain, json_line, printable
from allocator.cli.levers import ForOption, ask_panel, lever_lines, span_ms_or_exit
from allocator.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from allocator.broker.levers import Levers
    from allocator.service.live_regions import Panel, RegionRow

WIDTH_PIPED = 1000
RATE_MIN, RATE_MAX = 0.01, 100_000
COLUMNS = ("region", "destination", "rate", "now", "state", "shut for")

app = typer.Typer(help="Each destination's rate and state; levers on a region.", rich_markup_mode=None)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As the settings name the region.")]


@app.callback(invoke_without_command=True)
def regions(
    context: typer.Context,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Show each destination's rate, state and cool-down; with a verb, set or undo what operators want of a region."""
    if context.invoked_subcommand is not None:
        if as_json or config or assignments:
            complain(f"regions: write the options after '{context.invoked_subcommand}'")
            raise typer.Exit(EXIT_USAGE)
        return

    async def ask(panel: Panel) -> int:
        return await _show(panel, as_json=as_json)

    ask_panel(ask, config, assignments)


@app.command()
def drain(
    name: NameArgument,
    *,
    span: ForOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Start nothing new in a region; what runs there goes on."""
    span_ms = span_ms_or_exit(span)

    async def ask(panel: Panel) -> int:
        if (refusal := _refusal(panel, name)) is not None:
            return _refused(refusal)
        await panel.board.drain(name, span_ms)
        return await _show(panel, as_json=as_json)

    ask_panel(ask, config, assignments)


@app.command()
def resume(
    name: NameArgument, *, as_json: JsonOption = False, config: ConfigOption = None, assignments: SetOption = None
) -> None:
    """Undo all that is set for a region: drain and rate."""

    async def ask(panel: Panel) -> int:
        # A region that was taken out of the settings may still be under a lever.
        under_lever = (await panel.board.read()).regions
        if name not in under_lever and (refusal := _refusal(panel, name, tuple(under_lever))) is not None:
            return _refused(refusal)
        await panel.board.resume_region(name)
        return await _show(panel, as_json=as_json)

    ask_panel(ask, config, assignments)


@app.command("set")
def set_(
    name: NameArgument,
    rate: Annotated[float, typer.Option("--rate", metavar="N", help="Session starts a second over the whole fleet.")],
    *,
    span: ForOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Give each destination of a region another rate."""
    span_ms = span_ms_or_exit(span)
    if not (isfinite(rate) and RATE_MIN <= rate <= RATE_MAX):
        complain(f"--rate: must be {RATE_MIN} to {RATE_MAX} starts a second; 'regions drain' lets nothing start")
        raise typer.Exit(EXIT_USAGE)

    async def ask(panel: Panel) -> int:
        if (refusal := _refusal(panel, name)) is not None:
            return _refused(refusal)
        await panel.board.set_rate(name, rate, span_ms)
        return await _show(panel, as_json=as_json)

    ask_panel(ask, config, assignments)


def _refusal(panel: Panel, name: str, others: Sequence[str] = ()) -> str | None:
    """Why no lever can be on this name; None where it is a region's."""
    from allocator.service.settings_keys import nearest

    if panel.settings.resolve(name):
        return None
    known = sorted({*panel.settings.regions, *others})
    if not known:
        return f"no region {name!r}: the settings here name none; give those of the workers with --config"
    best = nearest(name, known)
    return f"no region {name!r}; the nearest known one is {best!r} (known are those of the settings here: --config)"


def _refused(refusal: str) -> int:
    complain(refusal)
    return EXIT_USAGE


async def _show(panel: Panel, *, as_json: bool) -> int:
    levers = await panel.board.read()
    rows = await panel.rows(levers)
    if as_json:
        from allocator.service.live_regions import pause_facts

        typer.echo(json_line({**pause_facts(levers), "regions": [row.to_data() for row in rows]}))
    else:
        _print(rows, levers)
    return 0


def _print(rows: Sequence[RegionRow], levers: Levers) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        # Whoever pipes it searches it: each destination stays on its line.
        console.width = WIDTH_PIPED
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in rows:
        # As Text: brackets in a name must not be read as markup.
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells(row)))
    if rows:
        console.print(table)
    else:
        typer.echo("the settings here name no region; give those of the workers with --config")
    for line in lever_lines(levers):
        typer.echo(printable(line))


def cells(row: RegionRow) -> tuple[str, ...]:
    """What the table shows of a destination, under `COLUMNS`."""
    rate_now = "-" if row.rate_now is None else f"{row.rate_now:.4g}"
    shut_for = f"{row.closed_seconds:.0f} s" if row.closed_seconds and not row.lever.drained else "-"
    return row.region, str(row.destination), f"{row.rate:g}", rate_now, row.state, shut_for
