"""`allocator worker`: the service."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from allocator.cli.options import EXIT_SETTINGS, ConfigOption, SetOption, read_assignments, trace_or_exit
from allocator.service.settings import load_settings

PROCESSES_MAX = 64


def worker(
    config: ConfigOption = None,
    assignments: SetOption = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    *,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=PROCESSES_MAX,
            help="So many processes behind one admin address, about one a core. "
            "worker.concurrency, worker.backlog and worker.backlog_bytes are of each; rates stay the fleet's.",
        ),
    ] = 1,
    print_address: Annotated[bool, typer.Option(help="Say the admin address on stdout once it is open.")] = False,
    seat: Annotated[str | None, typer.Option(hidden=True, help="Set by the supervisor.")] = None,
) -> None:
    """Take requests until SIGTERM. SIGHUP, or a change of the file, reads the settings again."""
    from allocator.service.live import Source
    from allocator.service.live_file import WatchedFile
    from allocator.service.process import run_loop, serve
    from allocator.service.supervisor_telling import Seat
    from allocator.telemetry.logging import configure_logging

    traced = trace_or_exit(config, assignments)
    options = read_assignments(assignments or ())
    source = Source(lambda: load_settings(config, options, os.environ), WatchedFile(traced.file))
    secrets: set[str] = set()
    try:
        configure_logging(log_level, secrets=secrets)
    except ValueError as error:
        typer.echo(f"--log-level: {error}", err=True)
        raise typer.Exit(EXIT_SETTINGS) from None
    say = typer.echo if print_address else None
    if processes > 1:
        import asyncio

        from allocator.service.supervisor import supervise

        if sys.platform == "win32":
            typer.echo("--processes: Windows passes no sockets on; start that many workers instead", err=True)
            raise typer.Exit(EXIT_SETTINGS)
        command = _command(config, assignments or (), log_level)
        raise typer.Exit(asyncio.run(supervise(traced.settings, command, processes, say=say)))
    taken = None if seat is None else Seat.read(seat)
    raise typer.Exit(run_loop(serve(traced.settings, learn=secrets.add, say=say, source=source, seat=taken)))


def _command(config: Path | None, assignments: Sequence[str], log_level: str) -> tuple[str, ...]:
    """The command of one worker with these options."""
    # `python -m` looks into the working directory first; this program was not found there unless it stands first here.
    safely = () if sys.path[0] in {"", str(Path.cwd())} else ("-P",)
    given = [word for each in assignments for word in ("--set", each)]
    if config is not None:
        given += ("--config", str(config))
    return (sys.executable, *safely, "-m", "allocator", "worker", "--log-level", log_level, *given)
