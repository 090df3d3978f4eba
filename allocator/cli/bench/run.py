"""A bench from its plan to its report on the screen, and to its exit code.

Progress goes to stderr, the report to stdout. Ctrl-C ends the round under way; what was measured before is shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import typer
from rich.console import Console

from allocator.cli.bench.plan import Load, Setup, Side
from allocator.cli.bench.report import Report
from allocator.cli.bench.rig import Rig
from allocator.cli.bench.rounds import Round, in_turn
from allocator.cli.bench.screen import progress, said, show
from allocator.cli.stage import StageError, stop_signals
from allocator.redis_io.errors import RedisFault, RedisUrlError
from allocator.redis_io.server import describe_server

EXIT_DONE, EXIT_BAD, EXIT_USAGE, EXIT_SERVER = 0, 1, 2, 3


class Measured(Protocol):
    """A report of what brings its own loads."""

    @property
    def complete(self) -> bool:
        """Whether every match that counts was given a server."""
        ...

    def to_data(self) -> dict[str, Any]:
        """The whole of it for a program."""
        ...


R = TypeVar("R", bound=Measured)


async def guarded(main: Coroutine[Any, Any, int]) -> int:
    """Run it; what does not start is a line on stderr and an exit code."""
    try:
        return await main
    except RedisUrlError as error:
        typer.echo(f"--redis: {error}", err=True)
        return EXIT_USAGE
    except (RedisFault, StageError) as error:
        typer.echo(f"allocator: {error}", err=True)
        return EXIT_SERVER


async def measure(setup: Setup, load: Load, sides: Sequence[Side], rounds: int, *, as_json: bool) -> int:
    """Measure so many rounds of each side and print the report."""
    stop, err = asyncio.Event(), Console(stderr=True)
    stop_signals(stop)
    done: list[Round] = []
    err.print(said(load, setup), style="dim", highlight=False, soft_wrap=True)
    async with Rig(setup) as rig:
        async for each in in_turn(rig, load, sides, rounds, stop):
            done.append(each)
            err.print(progress(each), highlight=False, soft_wrap=True)
        machine = await _machine(rig)
    report = Report(load, setup, machine, tuple(done))
    if not done:
        typer.echo("stopped before a round was complete", err=True)
    elif as_json:
        typer.echo(json.dumps(report.to_data(), indent=2))
    else:
        show(report, Console())
    return EXIT_DONE if report.complete else EXIT_BAD


async def alone(measure: Coroutine[Any, Any, R], show: Callable[[R, Console], None], *, as_json: bool) -> int:
    """Measure what brings its own loads and print what it finds."""
    report = await _unless_stopped(measure)
    if report is None:
        return EXIT_BAD
    if as_json:
        typer.echo(json.dumps(report.to_data(), indent=2))
    else:
        show(report, Console())
    return EXIT_DONE if report.complete else EXIT_BAD


def say(line: str) -> None:
    """Tell how it goes on."""
    Console(stderr=True).print(line, highlight=False, soft_wrap=True)


async def _unless_stopped(measure: Coroutine[Any, Any, R]) -> R | None:
    """What is measured; None where a signal came before."""
    stop = asyncio.Event()
    stop_signals(stop)
    measuring = asyncio.get_running_loop().create_task(measure)
    stopped = asyncio.get_running_loop().create_task(stop.wait())
    await asyncio.wait([measuring, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not measuring.done():
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)
        typer.echo("stopped before all was measured", err=True)
        return None
    return await measuring


async def _machine(rig: Rig) -> dict[str, Any]:
    server = await describe_server(rig.connection)
    return {
        "cores": os.cpu_count(),
        "pinned": rig.cores is not None,
        "worker_cores": sorted(rig.cores.workers) if rig.cores else None,
        "python": platform.python_version(),
        "system": sys.platform,
        "server": f"{server.product} {server.version}",
    }
