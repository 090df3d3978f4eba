"""`allocator config`: the effective settings and where each came from, secrets masked.

In: the sources of the settings. Out: a table, or with `--json` one object, key to value and source. Whatever is set
must be good (else exit 2); what a worker would still need is marked as not set, since other commands need less.
"""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from allocator.cli.options import ConfigOption, JsonOption, SetOption, trace_or_exit
from allocator.service.settings import WORKER_NEEDS, Leaf, Traced

WIDTH_PIPED = 1000


def config(file: ConfigOption = None, assignments: SetOption = None, *, as_json: JsonOption = False) -> None:
    """Show the effective settings and where each came from; secrets are masked."""
    traced = trace_or_exit(file, assignments, require=frozenset())
    if as_json:
        shown = {leaf.key: {"value": leaf.value, "source": _source(leaf)} for leaf in traced.leaves}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        console = Console()
        if not console.is_terminal:
            # Whoever pipes it searches it: each setting stays on its line.
            console.width = WIDTH_PIPED
        console.print(_table(traced))


def _table(traced: Traced) -> Table:
    table = Table(
        "setting", "value", "from", caption=_caption(traced), caption_justify="left", box=None, pad_edge=False
    )
    for leaf in traced.leaves:
        style = "dim" if leaf.source == "default" else ""
        # As Text: a list's brackets must not be read as markup.
        cells = (leaf.key, _value(leaf), _source(leaf))
        table.add_row(*(Text(cell, style=style, overflow="fold") for cell in cells))
    return table


def _caption(traced: Traced) -> Text:
    return Text(
        f"file: {traced.file}" if traced.file else "no settings file: --config, ALLOCATOR_CONFIG or allocator.toml"
    )


def _value(leaf: Leaf) -> str:
    if leaf.value in (None, ""):
        return "-"
    if isinstance(leaf.value, float) and leaf.value.is_integer():
        return str(int(leaf.value))
    return leaf.value if isinstance(leaf.value, str) else json.dumps(leaf.value, ensure_ascii=False)


def _source(leaf: Leaf) -> str:
    required = leaf.key in WORKER_NEEDS and leaf.source == "default"
    return "not set; a worker requires it" if required else leaf.source
