"""`allocator dev`: everything but the matchmaker, on known ports, to write one against."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allocator.contract.openapi import ALLOCATIONS

if TYPE_CHECKING:
    from allocator.cli.stage import Stage

EXIT_SERVER = 3
REDIS_PORT, GAMEYE_PORT, EDGEGAP_PORT, ADMIN_PORT, API_PORT = 6390, 8470, 8471, 9464, 8080

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
WITH_DOOR = """
[api]
port = {api_port}
token = "dev"
"""
WITH_EDGEGAP = """
[edgegap]
base_url = "{edgegap}"
account = "dev"
token = "dev"
locations.amsterdam = {{ lat = 52.37, lon = 4.89 }}

[regions.amsterdam]
destinations = [{{ provider = "edgegap", location = "amsterdam", rate = 20 }}]

[regions.eu-any]
destinations = [
  {{ provider = "gameye", location = "europe", rate = 40 }},
  {{ provider = "edgegap", location = "amsterdam", rate = 20 }},
]

[catalog.my-game]
edgegap = {{ application = "my-game", version = "v1" }}
"""
REGIONS = ("europe:latency_ms=150-350", "us-east:capacity=200,rate=20,burst=5,latency_ms=150-350")


def dev(
    redis_port: Annotated[int, typer.Option(help="Of the embedded server.")] = REDIS_PORT,
    gameye_port: Annotated[int, typer.Option(help="Of the simulated Gameye.")] = GAMEYE_PORT,
    edgegap_port: Annotated[int, typer.Option(help="Of the simulated Edgegap.")] = EDGEGAP_PORT,
    admin_port: Annotated[int, typer.Option(help="Of the console, metrics and probes.")] = ADMIN_PORT,
    api_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the HTTP door; its token is `dev`.")] = API_PORT,
    *,
    edgegap: Annotated[
        bool, typer.Option("--edgegap", help="A simulated Edgegap as well, and regions `amsterdam` and `eu-any` there.")
    ] = False,
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
            settings = SETTINGS + WITH_DOOR.format(api_port=api_port) + (WITH_EDGEGAP if edgegap else "")
            options = () if edgegap else None
            async with Stage(home, settings=settings, regions=REGIONS, workers=1, edgegap=options) as stage:
                try:
                    await stage.open(
                        redis_port=redis_port,
                        gameye_port=gameye_port,
                        edgegap_port=edgegap_port,
                        admin_port=admin_port,
                    )
                except (StageError, EmbeddedUnavailable) as error:
                    typer.echo(f"allocator: {error}", err=True)
                    return EXIT_SERVER
                typer.echo(_where(stage, home, api_port))
                await stop.wait()
                typer.echo("stopping")
        return 0

    raise typer.Exit(run_loop(main()))


def _where(stage: Stage, home: Path, api_port: int) -> str:
    port = stage.redis_url.rpartition(":")[2].partition("/")[0]
    regions = '["amsterdam"]' if stage.edgegap_url else '["europe","us-east"]'
    request = f'{{"id":"m-1","image":"my-game","regions":{regions}}}'
    door = f"http://127.0.0.1:{api_port}{ALLOCATIONS}"
    hosts = [("Gameye", stage.gameye_url), ("Edgegap", stage.edgegap_url)]
    simulated = "\n".join(
        f"{f'simulated {name}':<28}{url}   (its ledger: {url}/_simulator/ledger)" for name, url in hosts if url
    )
    return f"""\
Redis for your matchmaker   {stage.redis_url}
{simulated}
the same by HTTP            {door}   (token: dev)
console, metrics, probes    {stage.admin_urls[0]}
settings and logs           {home}

Try:  redis-cli -p {port} XADD '{{allocator}}:requests' '*' request '{request}'
      redis-cli -p {port} HGETALL '{{allocator}}:allocation:m-1'
      curl -H 'Authorization: Bearer dev' '{door}/m-1?wait=30'
      ALLOCATOR_CONFIG={home}/allocator.toml allocator explain m-1    or watch, regions, ...
Ctrl-C ends it."""
