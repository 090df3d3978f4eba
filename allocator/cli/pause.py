"""`allocator pause` and `resume`: stop and start the take-up of the whole fleet.

In: for how long. Out: the levers in force afterwards. What was taken up goes on; what waits in the streams stays there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from allocator.cli.asking import json_line, printable
from allocator.cli.levers import ForOption, ask_panel, lever_lines, span_ms_or_exit
from allocator.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from allocator.service.live_regions import Panel


def pause(
    *,
    span: ForOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Let no worker take requests up. Until 'allocator resume' or for a time; what is under way goes on."""
    span_ms = span_ms_or_exit(span)

    async def ask(panel: Panel) -> int:
        await panel.board.pause(span_ms)
        return await _say(panel, as_json=as_json)

    ask_panel(ask, config, assignments)


def resume(*, as_json: JsonOption = False, config: ConfigOption = None, assignments: SetOption = None) -> None:
    """Let the workers take requests up again. Regions stay as they are."""

    async def ask(panel: Panel) -> int:
        await panel.board.resume()
        return await _say(panel, as_json=as_json)

    ask_panel(ask, config, assignments)


async def _say(panel: Panel, *, as_json: bool) -> int:
    levers = await panel.board.read()
    if as_json:
        from allocator.service.live_regions import pause_facts

        typer.echo(json_line(pause_facts(levers)))
        return 0
    if not levers.paused:
        typer.echo("the workers take requests up")
    for line in lever_lines(levers):
        typer.echo(printable(line))
    return 0
