"""Redis loses its history while matches are in play: flushed, restored from a backup, promoted without its tail.

Two deployments share the provider's account and are looked after by hasty workers, so that hours of passes go by.
Whatever Redis forgot, no match in play is stopped, and whoever asks again is given the server that runs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TestServer, WaitUntil, _made
from tests.crash.estate import Estate

LANDING_SECONDS = 0.7
SIMULATOR: dict[str, Any] = {
    "regions": {"europe": {"latency_ms": "20-60"}, "us-east": {"latency_ms": "20-60"}},
    "faults": [
        {"kind": "lost_reply", "probability": 0.08},
        {"kind": "late", "probability": 0.04, "after_seconds": LANDING_SECONDS},
    ],
}
LAST_TIMEOUT_SECONDS = 6.0
"""Of the matches that a backup may show under way: it is past when the backup is put back."""
SETTLED_SECONDS = 2 * LANDING_SECONDS
"""So long nothing but the matches in play has run before Redis is struck: what is condemned is lost with the rest."""
AFTER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Size:
    """So many matches in play, watched for so long and over so many passes of each deployment."""

    matches: int
    seconds: float
    passes: int


SMALL = Size(matches=20, seconds=4, passes=3)
WHOLE = Size(matches=200, seconds=20, passes=10)
LONG = pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="takes a minute: LONG_TESTS=1")
SIZES = [pytest.param(SMALL, id="small"), pytest.param(WHOLE, id="whole", marks=LONG)]

MakeServer = Callable[[], TestServer]


@pytest.fixture
def make_server(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeServer]:
    """Makes servers of this test alone, not yet started; all are ended with it."""
    made: list[TestServer] = []

    def make() -> TestServer:
        made.append(_made(server_kind, tmp_path_factory))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture(params=[1, pytest.param(2, marks=LONG)], ids=["one-redis", "two-redis"])
async def estate(request: pytest.FixtureRequest, make_server: MakeServer, tmp_path: Path) -> AsyncIterator[Estate]:
    """Two deployments, on one Redis or each on its own; the first one's Redis is the one that is struck."""
    servers: Sequence[TestServer] = [make_server() for _ in range(request.param)]
    for server in servers:
        server.start()
    async with Estate.running(servers, tmp_path, SIMULATOR) as estate:
        yield estate


@pytest.mark.parametrize("size", SIZES)
async def test_a_flushed_redis_stops_no_match_in_play_and_gives_each_its_server_again(
    estate: Estate, size: Size
) -> None:
    await estate.play(size.matches)
    await estate.settled(SETTLED_SECONDS)
    estate.server.command("FLUSHALL")
    await all_play_on(estate, size)


@pytest.mark.parametrize("size", SIZES)
async def test_an_old_backup_stops_no_match_in_play_and_gives_each_its_server_again(
    estate: Estate, size: Size, tmp_path: Path, wait_until: WaitUntil
) -> None:
    await estate.play(size.matches // 2)
    backup = tmp_path / "backup"
    async with asyncio.TaskGroup() as group:
        group.create_task(estate.play(size.matches // 5, timeout_seconds=LAST_TIMEOUT_SECONDS))
        asked_at = time.monotonic()
        await wait_until(lambda: some_are_under_way(estate))
        estate.backup(backup)
    await estate.play(size.matches // 2 - size.matches // 5)
    await wait_until(lambda: time.monotonic() > asked_at + LAST_TIMEOUT_SECONDS, timeout_seconds=10)
    await estate.settled(SETTLED_SECONDS)
    await asyncio.to_thread(estate.restore, backup)
    await all_play_on(estate, size)


@pytest.mark.parametrize("size", SIZES)
async def test_a_replica_promoted_without_the_tail_stops_no_match_in_play_and_gives_each_its_server_again(
    estate: Estate, size: Size, make_server: MakeServer, wait_until: WaitUntil
) -> None:
    replica = make_server()
    replica.start("--replicaof", "127.0.0.1", str(estate.server.port))
    await wait_until(lambda: replica.command("ROLE")[3] == b"connected", timeout_seconds=10)
    await estate.play(size.matches // 2)
    await wait_until(lambda: replica.command("DBSIZE") == estate.server.command("DBSIZE"))
    replica.command("REPLICAOF", "NO", "ONE")
    await estate.play(size.matches // 2)
    await estate.settled(SETTLED_SECONDS)
    await asyncio.to_thread(estate.lose_to, replica)
    await all_play_on(estate, size)


async def test_a_match_whose_first_call_never_arrived_is_given_its_server_again(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    server.start()
    settings = {**SIMULATOR, "faults": [{"kind": "dropped", "times": 5}]}
    async with Estate.running([server], tmp_path, settings) as estate:
        await estate.play(SMALL.matches)
        server.command("FLUSHALL")
        assert not await estate.watch(1, 1)
        async with asyncio.TaskGroup() as group:
            for each in estate.deployments:
                group.create_task(each.ask_again())
        assert not await estate.forgotten(), "another server than the one it is played on"


async def some_are_under_way(estate: Estate) -> bool:
    first = estate.deployments[0]
    under_way: int = await first.redis.zcard(first.keys.leases)
    return under_way > 0


async def all_play_on(estate: Estate, size: Size) -> None:
    """No match in play is stopped, then or once all are asked for again, and each is answered with its server."""
    assert not await estate.watch(size.seconds, size.passes), estate.tails()
    async with asyncio.TaskGroup() as group:
        for each in estate.deployments:
            group.create_task(each.ask_again())
    assert not await estate.forgotten(), estate.tails()
    assert not await estate.watch(AFTER_SECONDS, 2), estate.tails()
    assert not await estate.doubled(), estate.tails()
    assert estate.workers_alive(), estate.tails()
