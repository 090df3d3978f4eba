"""No secret and nothing of a body leaves by a side door: a whole run with canaries in them, then a search for these.

Real workers on a real server, against a provider that loses, breaks and garbles and a client of it that raises, while
a worker is killed, a token renewed and Redis hangs. LONG_TESTS=1 plays it at every log level; without it at `debug`,
which says all that the others say.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis import Redis

from tests.conftest import TestServer, WaitUntil
from tests.crash.fleet import Fleet, Process, Simulator, start
from tests.telemetry.collector import Collector, collecting

LONG = bool(os.environ.get("LONG_TESTS"))
LEVELS = ("debug", "info", "warning", "error") if LONG else ("debug",)
END_SECONDS = 60.0
MATCHES = 30
TOKEN, NEW_TOKEN, PASSWORD = "canary-token-5a1e", "canary-renewed-77b0", "canary-password-c3d2"
ENV, ARG = "canary-env-9f04", "canary-arg-21ab"
CANARIES = (TOKEN, NEW_TOKEN, PASSWORD, ENV, ARG)
BODY = {"env": {"GAME_SECRET": ENV, "PLAIN": "1"}, "args": ["--password", ARG]}
FAULTS = [
    {"kind": kind, "probability": 0.05, **more}
    for kind, more in (
        ("lost_reply", {}),
        ("dropped", {}),
        ("malformed", {}),
        ("html", {}),
        ("status", {"status": 422}),
        ("status", {"status": 500}),
        ("late", {"after_seconds": 0.5}),
    )
]
REGIONS = {"europe": {"latency_ms": "5-40"}, "us-east": {"starts_per_second": 5}}
SIMULATOR: dict[str, Any] = {"regions": REGIONS, "faults": FAULTS}


@dataclass
class Run:
    """All that came out of it, by where it came out."""

    said: dict[str, str] = field(default_factory=dict)

    def finds(self, canary: str) -> list[str]:
        at = {where: text.find(canary) for where, text in self.said.items()}
        return [f"{where}: ...{self.said[where][max(0, i - 200) : i + 60]}" for where, i in at.items() if i >= 0]


class Told(Fleet):
    """A fleet whose workers say everything that they can be asked to say."""

    token_file: Path

    async def at_level(self, level: str, collector: Collector) -> tuple[Process, str]:
        """A worker with this log level, and its admin address."""
        config = self._directory / f"{self.name}.toml"
        config.write_text("[regions.europe]\nrate = 500\n[regions.us-east]\nrate = 500\n")
        options = [word for setting in self._options for word in ("--set", setting)]
        words = [
            "tests.telemetry.faulty_worker",
            "worker",
            "--log-level",
            level,
            "--print-address",
            "--config",
            str(config),
            *options,
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
            process = await start(f"{self.name}-{level}-{len(self.workers)}", self._directory, *words)
        self.workers.append(process)
        return process, await process.first_line()


@pytest.fixture
def server(private_server: TestServer) -> TestServer:
    """With a user whose password is a canary."""
    private_server.command("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    return private_server


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator.running(tmp_path, SIMULATOR) as simulator:
        yield simulator


@pytest.fixture
async def fleet(server: TestServer, simulator: Simulator, namespace: str, tmp_path: Path) -> AsyncIterator[Told]:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    settings = (f"gameye.token_file={token_file}", "telemetry.traces=otlp", "telemetry.match_lines=on")
    url = f"redis://worker:{PASSWORD}@127.0.0.1:{server.port}/0"
    async with Told(namespace, tmp_path, url, simulator.url, settings=settings, watch_url=server.url) as fleet:
        fleet._options.remove("gameye.token=t")
        fleet.token_file = token_file
        yield fleet


@pytest.mark.parametrize("level", LEVELS)
async def test_no_canary_leaves_a_run_by_a_side_door(
    level: str, fleet: Told, server: TestServer, simulator: Simulator, wait_until: WaitUntil
) -> None:
    run = Run()
    async with collecting() as collector:
        (first, _), (second, url) = [await fleet.at_level(level, collector) for _ in range(2)]
        await fleet.submit(MATCHES, timeout_seconds=10, body=BODY)
        await wait_until(fleet.ends, timeout_seconds=END_SECONDS)
        await first.kill()
        fleet.token_file.write_text(NEW_TOKEN)
        second.signal(signal.SIGHUP)
        await fleet.submit(MATCHES, timeout_seconds=10, body=BODY)
        await _submit_what_is_none(fleet)
        await fleet.finished(END_SECONDS)
        for name in fleet.asked[:3]:
            await fleet.cancel(name)
        server.pause()
        server.resume()
        run.said["metrics"] = await _get(f"{url}/metrics") + await _get(
            f"{url}/metrics", "application/openmetrics-text"
        )
        second.signal(signal.SIGTERM)
        assert await second.ended() == 0
        run.said["spans"] = "\n".join(map(str, collector.spans()))
    run.said |= {worker.name: worker.log.read_text(errors="replace") for worker in fleet.workers}
    kept, letters = _kept(server)
    run.said["redis"] = kept
    assert ENV in letters, "what could not be taken up is kept with its bytes"
    assert ENV in await _provider_has(simulator)
    assert "allocator_requests_finished_total" in run.said["metrics"]
    assert "POST /session" in run.said["spans"]
    assert '"state"' in run.said["redis"]
    if level == "debug":
        log = run.said[second.name]
        assert all(each in log for each in ("request finished", "attempt", "request refused", "fault of this program"))
    assert [found for canary in CANARIES for found in run.finds(canary)] == []


async def _submit_what_is_none(fleet: Told) -> None:
    """Requests that are faulty, each with canaries where it hurts; the last asks for a known id with another body."""
    faulty: list[Any] = [
        f'{{"id":"m-broken","env":{{"GAME_SECRET":"{ENV}"',
        {"id": "m-unknown", "image": "game", "enviroment": ENV},
        {"id": "m-typed", "image": "game", "env": {"GAME_SECRET": [ENV]}, "args": ARG},
        {"id": "m-large", "image": "game", "args": [ARG * 8000]},
        {"image": "game", **BODY},
        {"id": fleet.asked[0], "image": "other", **BODY},
    ]
    for each in faulty:
        text = each if isinstance(each, str) else json.dumps(each)
        await fleet.redis.xadd(f"{fleet.keys.prefix}:requests:high", {"request": text})


async def _get(url: str, accept: str = "*/*") -> str:
    async with aiohttp.ClientSession() as http, http.get(url, headers={"Accept": accept}) as reply:
        return await reply.text()


async def _provider_has(simulator: Simulator) -> str:
    """What the provider shows of every session, its environment included."""
    headers = {"Authorization": f"Bearer {NEW_TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{simulator.url}/session?all=true") as reply:
        return await reply.text()


def _kept(server: TestServer) -> tuple[str, str]:
    """Everything in Redis as text, and apart from it the dead letters."""
    kept, letters = list[str](), list[str]()
    with server.plain() as client:
        for key in client.scan_iter(count=1000):
            (letters if key.endswith(b":dead-letters") else kept).append(f"{key!r} {_value(client, key)!r}")
    return "\n".join(kept), "\n".join(letters)


def _value(client: Redis, key: bytes) -> object:
    match client.type(key):
        case b"hash":
            return client.hgetall(key)
        case b"stream":
            return client.xrange(key)
        case b"zset":
            return client.zrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case _:
            return client.get(key)
