"""`allocator demo --chaos`: the real service and a naive loop, each losing a worker to kill -9 every second.

The same matches go to both, each before a simulated Gameye of its own that loses one answer in twenty. At the end both
are counted: matches without an answer, matches with two servers, servers that run for nobody.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

from allocator.cli.demo import EXIT_BAD, EXIT_SERVER, SETTINGS, WISHES
from allocator.cli.naive import ANSWERS, MATCH, QUEUE
from allocator.cli.stage import Stage, StageError, stop_signals
from allocator.client import AllocatorClient
from allocator.contract.allocation import Allocation
from allocator.contract.request import REQUEST_MARK
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import EmbeddedUnavailable

KILL_SECONDS = 1.0
CALM_SECONDS = 40.0
WORKERS = 2
REGIONS = ("europe:latency_ms=120-280", "us-east:rate=20,burst=3,latency_ms=120-280", "us-west:latency_ms=120-280")
FAULTS = ("lost_reply:probability=0.05,on=start",)
PATIENCE_SECONDS = 90.0
LEASE = "\n[worker]\nlease_seconds = 3\n"

Answers = dict[str, str | None]
"""The session that each match was given, None where none was."""


@dataclass(frozen=True, slots=True)
class Count:
    """What became of the matches on one side."""

    lost: int
    doubled: int
    left_over: int


async def show_chaos(directory: Path, matches: int, rate: float) -> int:
    """Run both, kill both, count both."""
    stop = asyncio.Event()
    stop_signals(stop)
    async with Stage(directory, settings=SETTINGS + LEASE, regions=REGIONS, workers=WORKERS, faults=FAULTS) as stage:
        typer.echo("starting an embedded server, two simulated Gameyes, two workers and a naive loop ...")
        try:
            await stage.open()
            naive_url = await stage.simulator("simulator-naive")
        except (StageError, EmbeddedUnavailable) as error:
            typer.echo(f"allocator: {error}", err=True)
            return EXIT_SERVER
        playing = asyncio.get_running_loop().create_task(_play(stage, naive_url, matches, rate))
        stopped = asyncio.get_running_loop().create_task(stop.wait())
        await asyncio.wait([playing, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not playing.done():
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            return 0
        return await playing


async def _play(stage: Stage, naive_url: str, matches: int, rate: float) -> int:
    kills: list[int] = []
    async with (
        AllocatorClient(stage.redis_url) as client,
        await connect(stage.redis_url, name="chaos") as connection,
        aiohttp.ClientSession() as http,
    ):
        killing = asyncio.get_running_loop().create_task(_kill(stage, naive_url, kills, seconds=matches / rate))
        try:
            answers = await _ask(client, connection, matches, rate)
            await killing
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
        ours = await _calm(http, stage.gameye_url, answers)
        words = [word.decode() for word in await connection.execute("HGETALL", ANSWERS)]
        named = dict(zip(words[::2], words[1::2], strict=True))
        naive = _count(await _alive(http, naive_url), {name: named.get(name) for name in answers})
    _print(matches, len(kills), ours, naive)
    return 0 if (ours.lost, ours.doubled, ours.left_over) == (0, 0, 0) else EXIT_BAD


async def _kill(stage: Stage, naive_url: str, kills: list[int], *, seconds: float) -> None:
    """Every second one worker of each side, as long as matches come."""
    until = asyncio.get_running_loop().time() + seconds
    chance = random.Random()  # noqa: S311 - which worker goes first
    words = (stage.redis_url, naive_url)
    naive = [await stage.start(f"naive-{number}", "allocator.cli.naive", *words) for number in range(WORKERS)]
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(KILL_SECONDS)
        number = chance.randrange(WORKERS)
        naive[number].kill()
        await asyncio.gather(stage.kill_worker(number), naive[number].wait())
        naive[number] = await stage.start(f"naive-{number}", "allocator.cli.naive", *words)
        kills.append(number)


async def _ask(client: AllocatorClient, connection: RedisConnection, matches: int, rate: float) -> Answers:
    """Give both sides the same matches at a steady rate; what the real one answers."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    waiting: dict[str, asyncio.Task[Allocation]] = {}
    try:
        for number in range(matches):
            await asyncio.sleep(max(0.0, since + number / rate - loop.time()))
            request = {"id": f"match-{number}", "image": "arena", "regions": list(WISHES[number % len(WISHES)])}
            waiting[f"match-{number}"] = loop.create_task(client.allocate(request, timeout_seconds=PATIENCE_SECONDS))
            await connection.execute("RPUSH", QUEUE, json.dumps(request))
        answers = await asyncio.gather(*waiting.values(), return_exceptions=True)
    finally:
        for each in waiting.values():
            each.cancel()
        await asyncio.gather(*waiting.values(), return_exceptions=True)
    served = [answer.session_id if isinstance(answer, Allocation) else None for answer in answers]
    return dict(zip(waiting, served, strict=True))


async def _calm(http: aiohttp.ClientSession, url: str, answers: Answers) -> Count:
    """Count once what is to be stopped has been, or the calm is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + CALM_SECONDS
    while True:
        count = _count(await _alive(http, url), answers)
        if not (count.doubled or count.left_over) or loop.time() > until:
            return count
        await asyncio.sleep(1)


def _count(alive: list[dict[str, Any]], answers: Answers) -> Count:
    servers = Counter(session["labels"].get(REQUEST_MARK) or session["labels"].get(MATCH) for session in alive)
    named = set(answers.values())
    return Count(
        lost=sum(session_id is None for session_id in answers.values()),
        doubled=sum(number > 1 for number in servers.values()),
        left_over=sum(session["id"] not in named for session in alive),
    )


async def _alive(http: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    async with http.get(f"{url}/_simulator/ledger") as reply:
        return [session for session in (await reply.json())["sessions"] if session["status"] == "running"]


def _print(matches: int, kills: int, ours: Count, naive: Count) -> None:
    table = Table(title=f"{matches} matches, {kills} workers of each killed with -9", title_justify="left")
    for name in ("", "allocator", "naive loop"):
        table.add_column(name)
    table.add_row("matches lost", str(ours.lost), str(naive.lost))
    table.add_row("matches with two servers", str(ours.doubled), str(naive.doubled))
    table.add_row("servers left over", str(ours.left_over), str(naive.left_over))
    Console().print(table)
