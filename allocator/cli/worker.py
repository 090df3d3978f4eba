"""`allocator worker`: the service."""

from __future__ import annotations

from typing import Annotated

import typer

from allocator.cli.options import EXIT_SETTINGS, ConfigOption, SetOption, load_or_exit


def worker(
    config: ConfigOption = None,
    assignments: SetOption = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    *,
    print_address: Annotated[bool, typer.Option(help="Say the admin address on stdout once it is open.")] = False,
) -> None:
    """Take requests until SIGTERM."""
    from allocator.service.process import run_loop, serve
    from allocator.telemetry.logging import configure_logging

    settings = load_or_exit(config, assignments)
    secrets: set[str] = set()
    try:
        configure_logging(log_level, secrets=secrets)
    except ValueError as error:
        typer.echo(f"--log-level: {error}", err=True)
        raise typer.Exit(EXIT_SETTINGS) from None
    raise typer.Exit(run_loop(serve(settings, learn=secrets.add, say=typer.echo if print_address else None)))
