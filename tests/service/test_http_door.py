"""The HTTP door of real processes: one worker's own, and the one that several under a supervisor have."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from allocator.redis_io.embedded import EmbeddedServer
from tests.conftest import WaitUntil
from tests.crash.fleet import Process, Simulator
from tests.service.test_supervisor import Supervised

END_SECONDS = 40.0
DOOR = ("api.port=0", "api.token=secret-of-the-door")
OPENED = re.compile(r"\"api_port\": ?(\d+)")
SIMULATOR: dict[str, Any] = {"regions": {"europe": {}}, "faults": []}


@pytest.fixture
async def fleet(namespace: str, tmp_path: Path) -> AsyncIterator[Supervised]:
    server = await EmbeddedServer.acquire(tmp_path / "redis")
    async with (
        Simulator.running(tmp_path, SIMULATOR) as simulator,
        Supervised(namespace, tmp_path, server.url, simulator.url) as fleet,
    ):
        yield fleet
    await server.release()


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_match_comes_and_goes_by_http_alone(fleet: Supervised, processes: int, wait_until: WaitUntil) -> None:
    process = await (fleet.start(*DOOR) if processes == 2 else fleet.worker(*DOOR, wait=False))
    admin = await process.first_line()
    url = f"http://127.0.0.1:{await port_of(process, wait_until)}/v1/allocations"
    bearer = {"Authorization": "Bearer secret-of-the-door"}
    async with aiohttp.ClientSession(headers=bearer) as http:
        async with http.get(f"{url}/m-1", headers={"Authorization": "Bearer wrong"}) as reply:
            assert reply.status == 401
        async with http.post(url, json={"id": "m-1", "image": "game", "regions": ["europe"]}) as reply:
            assert reply.status == 202
        async with http.get(f"{url}/m-1?wait=30") as reply:
            assert (reply.status, (await reply.json())["state"]) == (200, "allocated")
        async with http.delete(f"{url}/m-1") as reply:
            assert reply.status == 202

        async def released() -> bool:
            async with http.get(f"{url}/m-1") as reply:
                return bool((await reply.json())["state"] == "released")

        await wait_until(released, timeout_seconds=END_SECONDS)
        async with http.get(f"{admin}/metrics") as reply:
            told = (await reply.text()).splitlines()
        for method, status in (("GET", 401), ("POST", 202), ("DELETE", 202)):
            assert f'allocator_http_requests_total{{method="{method}",status="{status}"}} 1' in {
                line.removesuffix(".0") for line in told
            }
    assert process.log.read_text().count("http door opened") == 1
    assert "secret-of-the-door" not in process.log.read_text()


async def test_a_port_in_use_ends_the_start_and_names_the_setting(fleet: Supervised, wait_until: WaitUntil) -> None:
    first = await fleet.worker(*DOOR)
    port = await port_of(first, wait_until)
    second = await fleet.worker(f"api.port={port}", "api.token=t", wait=False)
    assert await second.ended(END_SECONDS) == 2
    assert f"api.port {port} is in use" in second.tail()


async def port_of(process: Process, wait_until: WaitUntil) -> int:
    found = await wait_until(lambda: OPENED.search(process.log.read_text()), timeout_seconds=END_SECONDS)
    return int(found.group(1))
