"""`allocator`: the commands put together. What a command needs it imports itself, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from allocator import __version__
from allocator.cli import (
    bench,
    cancel,
    config,
    dead_letters,
    demo,
    dev,
    doctor,
    edgegap,
    explain,
    matches,
    orphans,
    pause,
    regions,
    simulate,
    trial,
    watch,
    worker,
)

app = typer.Typer(
    help="The placement broker between any matchmaker and any game-server host.",
    invoke_without_command=True,
    pretty_exceptions_show_locals=False,  # locals hold tokens and env
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's shape of a callback
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def allocator(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Take options that stand before the command."""
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("demo")(demo.demo)
app.command("dev")(dev.dev)
app.command("worker")(worker.worker)
app.command("try")(trial.trial)
app.command("submit")(matches.submit)
app.command("get")(matches.get)
app.command("wait")(matches.wait)
app.command("cancel")(cancel.cancel)
app.command("explain")(explain.explain)
app.command("watch")(watch.watch)
app.add_typer(regions.app, name="regions")
app.command("pause")(pause.pause)
app.command("resume")(pause.resume)
app.command("orphans")(orphans.orphans)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(simulate.app, name="simulate")
app.add_typer(edgegap.app, name="edgegap")
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("config")(config.config)


def run() -> None:
    """Run the command line."""
    app()
