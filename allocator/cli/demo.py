"""`allocator demo`: the whole service on this machine, with matches going in and addresses coming out.

An embedded server, a simulated Gameye whose first region is soon full and whose second lets only so many start a
second, two workers and a matchmaker; live progress, a table of results, then exit 0. Nothing is left behind. With
`--edgegap` the first region goes on at a second host in the same city.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from allocator.cli.demo_tally import Tally
    from allocator.cli.stage import Stage
    from allocator.client import AllocatorClient

EXIT_BAD, EXIT_OPTIONS, EXIT_SERVER = 1, 2, 3
WORKERS = 2
PATIENCE_SECONDS = 90.0
REFRESH_SECONDS = 0.1

SETTINGS = """\
deployment = "demo"
default_regions = ["europe", "us-east", "us-west"]

[redis]
url = "{redis}"

[gameye]
base_url = "{gameye}"
account = "demo"
token = "demo"

[regions.europe]
rate = 100

[regions.us-east]
rate = 20

[regions.us-west]
rate = 100

[catalog.arena]
ports = {{ game = "7777/udp" }}
"""
WITH_EDGEGAP = """
[edgegap]
base_url = "{edgegap}"
account = "demo"
token = "demo"
locations.amsterdam = {{ lat = 52.37, lon = 4.89 }}
"""
BOTH_HOSTS = """\
destinations = [
  {{ provider = "gameye", location = "europe", rate = 100 }},
  {{ provider = "edgegap", location = "amsterdam", rate = 40 }},
]
"""
WISHES = (("europe", "us-east", "us-west"), ("us-east", "us-west"), ("europe", "us-west"))


def demo(
    matches: Annotated[int, typer.Option(min=1, max=100_000, help="How many matches.")] = 500,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="How many come in a second.")] = 50,
    *,
    chaos: Annotated[
        bool,
        typer.Option("--chaos", help="Kill a worker with -9 every second, beside a naive loop under the same kills."),
    ] = False,
    edgegap: Annotated[
        bool, typer.Option("--edgegap", help="A second host beside Gameye: where Europe is full, it goes on there.")
    ] = False,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Stay up afterwards, until Ctrl-C.")] = False,
) -> None:
    """Show the whole service on this machine. Matches go in, addresses come out, a full region is passed over."""
    from allocator.service.process import run_loop

    async def main() -> int:
        with tempfile.TemporaryDirectory(prefix="allocator-demo-") as directory:
            if chaos and edgegap:
                typer.echo("allocator: --chaos compares on Gameye alone; leave --edgegap out", err=True)
                return EXIT_OPTIONS
            if chaos:
                from allocator.cli.chaos import show_chaos

                return await show_chaos(Path(directory), matches, rate)
            return await _show(Path(directory), matches, rate, edgegap=edgegap, keep_running=keep_running)

    raise typer.Exit(run_loop(main()))


async def _show(directory: Path, matches: int, rate: float, *, edgegap: bool, keep_running: bool) -> int:
    from allocator.cli.stage import Stage, StageError, stop_signals
    from allocator.redis_io.errors import EmbeddedUnavailable

    stop = asyncio.Event()
    stop_signals(stop)
    # Room for some of those that want it first: it is full before the last match has come.
    full_at = max(1, matches // 4)
    regions = (
        f"europe:capacity={full_at},latency_ms=120-280",
        "us-east:rate=20,burst=3,latency_ms=120-280",
        "us-west:latency_ms=120-280",
    )
    settings = with_edgegap(SETTINGS) if edgegap else SETTINGS
    options = ("--start-seconds", "0.3-1.5") if edgegap else None
    async with Stage(directory, settings=settings, regions=regions, workers=WORKERS, edgegap=options) as stage:
        hosts = "a simulated Gameye, a simulated Edgegap" if edgegap else "a simulated Gameye"
        typer.echo(f"starting an embedded server, {hosts} and two workers ...")
        try:
            await stage.open()
        except (StageError, EmbeddedUnavailable) as error:
            typer.echo(f"allocator: {error}", err=True)
            return EXIT_SERVER
        code = await _play(stage, matches, rate, stop, full_at)
        if keep_running and not stop.is_set():
            typer.echo(f"still running, with logs in {directory}; Ctrl-C ends it")
            await stop.wait()
    return code


def with_edgegap(settings: str) -> str:
    """The same, with Europe at both hosts, and what Edgegap calls the image."""
    settings = settings.replace("[regions.europe]\nrate = 100\n", f"[regions.europe]\n{BOTH_HOSTS}")
    return f'{settings}edgegap = {{{{ application = "arena", version = "v1" }}}}\n{WITH_EDGEGAP}'


async def _play(stage: Stage, matches: int, rate: float, stop: asyncio.Event, full_at: int) -> int:
    from rich.console import Console
    from rich.live import Live

    from allocator.cli.demo_tally import Tally, fetch_ledger, progress, results
    from allocator.client import AllocatorClient

    console = Console()
    tally = Tally(matches)
    async with AllocatorClient(stage.redis_url) as client:
        playing = asyncio.get_running_loop().create_task(_matchmaker(client, tally, rate))
        stopped = asyncio.get_running_loop().create_task(stop.wait())
        with Live(progress(tally), console=console, refresh_per_second=8, transient=True) as live:
            while not (playing.done() or stopped.done()):
                await asyncio.wait([playing, stopped], timeout=REFRESH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                live.update(progress(tally))
        stopped.cancel()
        if not playing.done():
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            console.print("stopped; ending what runs ...")
            return 0
        await playing
        ledgers = [await fetch_ledger(url) for url in (stage.gameye_url, stage.edgegap_url) if url]
    console.print(results(tally, ledgers, full_at))
    return 0 if tally.all_served(ledgers) else EXIT_BAD


async def _matchmaker(client: AllocatorClient, tally: Tally, rate: float) -> None:
    """Ask for the matches at a steady rate, whatever becomes of those before, and wait for every answer."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(tally.wanted):
            await asyncio.sleep(max(0.0, since + number / rate - loop.time()))
            group.create_task(_match(client, tally, number))


async def _match(client: AllocatorClient, tally: Tally, number: int) -> None:
    loop = asyncio.get_running_loop()
    request = {"id": f"match-{number}", "image": "arena", "regions": list(WISHES[number % len(WISHES)])}
    tally.asked += 1
    since = loop.time()
    try:
        allocation = await client.allocate(request, timeout_seconds=PATIENCE_SECONDS)
    except TimeoutError:
        tally.unanswered += 1
    else:
        tally.add(allocation, loop.time() - since, wished=request["regions"][0])
