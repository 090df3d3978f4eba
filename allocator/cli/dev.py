"""`allocator dev`: everything but the matchmaker, on known ports, to write one against."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

EXIT_SERVER = 3
REDIS_PORT, GAMEYE_PORT, ADMIN_PORT = 6390, 8470, 9464

SETTINGS = """\
deployment = "dev"
default_regions = ["europe", "us-east"]
unknown_regions = "default"

[redis]
url = "{redis}"

[gameye]
base_url = "{gameye}"
account = "dev"
token = "dev"

[regions.europe]
rate = 40

[regions.us-east]
rate = 20
"""
REGIONS = ("europe:latency_ms=150-350", "us-east:capacity=200,rate=20,burst=5,latency_ms=150-350")


def dev(
    redis_port: Annotated[int, typer.Option(help="Of the embedded server.")] = REDIS_PORT,
    gameye_port: Annotated[int, typer.Option(help="Of the simulated Gameye.")] = GAMEYE_PORT,
    admin_port: Annotated[int, typer.Option(help="Of metrics and probes.")] = ADMIN_PORT,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Keep the data here; without it nothing is kept.", show_default=False)
    ] = None,
) -> None:
    """Run all but the matchmaker, until Ctrl-C. An embedded server, a simulated Gameye and a worker, on known ports."""
    from allocator.cli.stage import Stage, StageError, stop_signals
    from allocator.redis_io.errors import EmbeddedUnavailable
    from allocator.service.process import run_loop

    async def main() -> int:
        with tempfile.TemporaryDirectory(prefix="allocator-dev-") as temporary:
            home = directory or Path(temporary)
            home.mkdir(parents=True, exist_ok=True)
            stop = asyncio.Event()
            stop_signals(stop)
            async with Stage(home, settings=SETTINGS, regions=REGIONS, workers=1) as stage:
                try:
                    await stage.open(redis_port=redis_port, gameye_port=gameye_port, admin_port=admin_port)
                except (StageError, EmbeddedUnavailable) as error:
                    typer.echo(f"allocator: {error}", err=True)
                    return EXIT_SERVER
                typer.echo(_where(stage.redis_url, stage.gameye_url, stage.admin_urls[0], home))
                await stop.wait()
                typer.echo("stopping")
        return 0

    raise typer.Exit(run_loop(main()))


def _where(redis_url: str, gameye_url: str, admin_url: str, home: Path) -> str:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    request = '{"id":"m-1","image":"my-game","regions":["europe","us-east"]}'
    return f"""\
Redis for your matchmaker   {redis_url}
simulated Gameye            {gameye_url}   (its ledger: {gameye_url}/_simulator/ledger)
metrics and probes          {admin_url}/metrics
settings and logs           {home}

Try:  redis-cli -p {port} XADD '{{allocator}}:requests' '*' request '{request}'
      redis-cli -p {port} HGETALL '{{allocator}}:allocation:m-1'
Ctrl-C ends it."""
