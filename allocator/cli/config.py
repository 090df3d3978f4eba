"""`allocator config`: the effective settings and where each came from, secrets masked.

In: the sources of the settings, and Redis where it answers at once. Out: a table, or with `--json` one object, key to
value and source; beside the settings the operators' levers, with the source `lever`. Whatever is set must be good (else
exit 2); what a worker would still need is marked as not set, since other commands need less. A Redis that cannot be
asked is said and changes nothing else; an embedded one is not started for this.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from allocator.broker.levers import Levers
from allocator.cli.asking import printable
from allocator.cli.options import ConfigOption, JsonOption, SetOption, trace_or_exit
from allocator.service.settings import WORKER_NEEDS, Leaf, Settings, Traced

if TYPE_CHECKING:
    from rich.table import Table

WIDTH_PIPED = 1000
ASK_SECONDS = 1.0
NOT_REACHABLE = "levers: Redis not reachable"


@dataclass(frozen=True, slots=True)
class _Lever:
    """A lever as a setting is shown."""

    key: str
    value: Any
    until_ms: int | None


def config(file: ConfigOption = None, assignments: SetOption = None, *, as_json: JsonOption = False) -> None:
    """Show the settings and where each came from. Levers of operators are beside them; secrets are masked."""
    traced = trace_or_exit(file, assignments, require=frozenset())
    levers = asyncio.run(_levers(traced.settings))
    if as_json:
        shown: dict[str, dict[str, Any]] = {
            leaf.key: {"value": leaf.value, "source": _source(leaf)} for leaf in traced.leaves
        }
        for lever in _shown(levers):
            shown[lever.key] = {"value": lever.value, "source": "lever", "until": lever.until_ms}
        if levers is None:
            typer.echo(NOT_REACHABLE, err=True)
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            # Whoever pipes it searches it: each setting stays on its line.
            console.width = WIDTH_PIPED
        console.print(_table(traced, levers))


async def _levers(settings: Settings) -> Levers | None:
    """The levers in force; none where no Redis is named that runs by itself, None where it does not answer."""
    from allocator.broker.broker import BrokerUnavailable
    from allocator.redis_io.errors import RedisFault, RedisUrlError
    from allocator.service.live_regions import open_panel

    url = settings.redis.url.get_secret_value()
    if not url or url.startswith("embedded:"):
        return Levers()
    try:
        async with asyncio.timeout(ASK_SECONDS), open_panel(settings) as panel:
            return await panel.board.read()
    except (BrokerUnavailable, RedisFault, RedisUrlError, TimeoutError):
        return None


def _shown(levers: Levers | None) -> Iterator[_Lever]:
    if levers is None:
        return
    if levers.paused:
        yield _Lever("levers.paused", value=True, until_ms=levers.paused_until_ms)
    for name, lever in levers.regions.items():
        if lever.drained:
            yield _Lever(f"levers.regions.{name}.drained", value=True, until_ms=lever.drained_until_ms)
        if lever.rate is not None:
            yield _Lever(f"levers.regions.{name}.rate", lever.rate, lever.rate_until_ms)


def _table(traced: Traced, levers: Levers | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    from allocator.service.live_force import until

    named = f"file: {traced.file}" if traced.file else "no settings file: --config, ALLOCATOR_CONFIG or allocator.toml"
    caption = Text(named)
    if levers is None:
        caption.append(f"\n{NOT_REACHABLE}")
    table = Table("setting", "value", "from", caption=caption, caption_justify="left", box=None, pad_edge=False)
    for leaf in traced.leaves:
        style = "dim" if leaf.source == "default" else ""
        # As Text: a list's brackets must not be read as markup.
        cells = (leaf.key, _value(leaf.value), _source(leaf))
        table.add_row(*(Text(cell, style=style, overflow="fold") for cell in cells))
    for lever in _shown(levers):
        cells = (printable(lever.key), _value(lever.value), f"lever{until(lever.until_ms)}")
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    return table


def _value(value: Any) -> str:
    if value in (None, ""):
        return "-"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _source(leaf: Leaf) -> str:
    required = leaf.key in WORKER_NEEDS and leaf.source == "default"
    return "not set; a worker requires it" if required else leaf.source
