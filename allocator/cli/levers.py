"""What the commands with levers have in common: asking over a panel, durations, the sentences of what is in force.

In: texts of a person, levers. Out: milliseconds, lines. Exit 0 done, 2 usage or settings, 3 Redis cannot
be reached.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allocator.cli.asking import EXIT_REDIS, EXIT_USAGE, ask_redis, complain

if TYPE_CHECKING:
    from allocator.broker.levers import Levers
    from allocator.service.live_regions import Panel
    from allocator.service.settings import Settings

FOR_MS_MAX = 30 * 24 * 3_600_000
_SPAN = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)

ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="DURATION", help="Undo it by itself after this long: 30s, 30m, 2h, 1h30m."),
]


def ask_panel(
    ask: Callable[[Panel], Coroutine[Any, Any, int]], config: Path | None, assignments: Sequence[str] | None
) -> None:
    """Ask over the panel of the namespace that the settings name, and exit with what that gives."""

    async def asked(settings: Settings) -> int:
        from allocator.broker.broker import BrokerUnavailable
        from allocator.gate.gate import GateUnavailable
        from allocator.service.live_regions import open_panel

        try:
            async with open_panel(settings) as panel:
                return await ask(panel)
        except (BrokerUnavailable, GateUnavailable) as error:
            complain(str(error))
            return EXIT_REDIS

    ask_redis(asked, config, assignments)


def span_ms_or_exit(text: str | None) -> int | None:
    """The milliseconds of a duration; None: it has no end. What is none exits 2."""
    if text is None:
        return None
    found = _SPAN.fullmatch(text)
    hours, minutes, seconds = (int(number or 0) for number in found.groups()) if found else (0, 0, 0)
    span_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000
    if not 0 < span_ms <= FOR_MS_MAX:
        complain(f"--for: {text[:64]!r} is no duration of 1s to 720h; write it like 30s, 30m, 2h or 1h30m")
        raise typer.Exit(EXIT_USAGE)
    return span_ms


def lever_lines(levers: Levers) -> list[str]:
    """A sentence for each lever in force, with the command that undoes it."""
    from allocator.service.live_force import until

    lines: list[str] = []
    if levers.paused:
        lines.append(f"the fleet is paused{until(levers.paused_until_ms)}; 'allocator resume' ends it")
    for name, lever in levers.regions.items():
        undo = f"; 'allocator regions resume {name}' ends it"
        if lever.drained:
            lines.append(f"{name} is drained{until(lever.drained_until_ms)}{undo}")
        if lever.rate is not None:
            lines.append(f"{name} has a rate of {lever.rate:g}{until(lever.rate_until_ms)}{undo}")
    return lines
