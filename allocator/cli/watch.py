"""`allocator watch`: the fleet in the terminal, looked at again every second.

In: settings, how often, how many times. Out: on a terminal a view that stays in its place; elsewhere a block of plain
text a look; with `--json` one object a line. Exit 0 at the end, which Ctrl-C is; 2 usage or settings; 3 Redis cannot be
reached at the first look. Promises: a Redis that goes away later is said in the view, which goes on when it is back
(with `--json` that line is `{"error": ...}`); no control character of anyone's text reaches the terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from allocator.cli.asking import EXIT_REDIS, EXIT_USAGE, ask_redis, complain, json_line
from allocator.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from rich.console import Console

    from allocator.cli.watch_view import Sight
    from allocator.service.look import Looker
    from allocator.service.settings import Settings

T = TypeVar("T")
EVERY_SECONDS_MIN, EVERY_SECONDS_MAX = 0.2, 60.0
WIDTH_PIPED = 1000

Show = Callable[["Sight"], None]


def watch(
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", help="How often to look: 0.2 to 60.")] = 1.0,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="End after so many looks.", show_default=False)
    ] = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Watch the fleet. What waits, what is under way, how the regions stand, what ended; Ctrl-C ends it."""
    if not EVERY_SECONDS_MIN <= every <= EVERY_SECONDS_MAX:
        complain(f"--every: must be {EVERY_SECONDS_MIN:g} to {EVERY_SECONDS_MAX:g} seconds")
        raise typer.Exit(EXIT_USAGE)

    async def ask(settings: Settings) -> int:
        from allocator.cli.stage import stop_signals
        from allocator.service.look import open_looker

        stop = asyncio.Event()
        stop_signals(stop)
        async with open_looker(lambda: settings, name="watch") as looker:
            if as_json:
                return await _watch(looker, _say_json, stop, every, count)
            return await _drawn(looker, stop, every, count)

    ask_redis(ask, config, assignments)


async def _drawn(looker: Looker, stop: asyncio.Event, every_seconds: float, count: int | None) -> int:
    from rich.console import Console
    from rich.live import Live

    from allocator.cli.watch_view import picture

    console = Console(highlight=False)
    if not console.is_terminal:
        # Whoever pipes it searches it: what belongs together stays on its line.
        console.width = WIDTH_PIPED
        return await _watch(looker, lambda sight: _say(console, sight), stop, every_seconds, count)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def show(sight: Sight) -> None:
            live.update(picture(sight, console.size.height), refresh=True)

        return await _watch(looker, show, stop, every_seconds, count)


async def _watch(looker: Looker, show: Show, stop: asyncio.Event, every_seconds: float, count: int | None) -> int:
    """Look and show until told to stop, or often enough."""
    from allocator.cli.watch_view import Sight
    from allocator.service.look import UNREACHABLE

    loop = asyncio.get_running_loop()
    seen, seen_at, looks = Sight(None), loop.time(), 0
    while True:
        begun_at = loop.time()
        try:
            look = await _unless(stop, looker.look())
            if look is None:
                return 0
            seen, seen_at = Sight(look), loop.time()
        except UNREACHABLE as error:
            if seen.look is None:
                complain(str(error))
                return EXIT_REDIS
            seen = Sight(seen.look, str(error), loop.time() - seen_at)
        show(seen)
        looks += 1
        if looks == count:
            return 0
        await _unless(stop, asyncio.sleep(begun_at + every_seconds - loop.time()))
        if stop.is_set():
            return 0


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What the work gives; None where it was told to stop before."""
    working, told = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        return None if stop.is_set() else working.result()
    finally:
        for each in (working, told):
            each.cancel()
        await asyncio.gather(working, told, return_exceptions=True)


def _say_json(sight: Sight) -> None:
    if sight.amiss is not None:
        typer.echo(json_line({"error": sight.amiss}))
    elif sight.look is not None:
        typer.echo(json_line(sight.look.to_data()))


def _say(console: Console, sight: Sight) -> None:
    """One block, with an empty line after it; what was seen before Redis went away is not said again."""
    from allocator.cli.watch_view import picture

    console.print(picture(replace(sight, look=None) if sight.amiss is not None else sight))
    typer.echo()
