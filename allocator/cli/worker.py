"""`allocator worker`: the service."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from allocator.cli.options import EXIT_SETTINGS, ConfigOption, SetOption, read_assignments, trace_or_exit
from allocator.service.settings import load_settings


def worker(
    config: ConfigOption = None,
    assignments: SetOption = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    *,
    print_address: Annotated[bool, typer.Option(help="Say the admin address on stdout once it is open.")] = False,
) -> None:
    """Take requests until SIGTERM; SIGHUP, or a change of the file, reads the settings again."""
    from allocator.service.live import Source
    from allocator.service.live_file import WatchedFile
    from allocator.service.process import run_loop, serve
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
    raise typer.Exit(run_loop(serve(traced.settings, learn=secrets.add, say=say, source=source)))
