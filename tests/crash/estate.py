"""Two deployments on one account of the provider, and the Redis under them that loses its history.

In: servers, a directory. Out: an `Estate` whose matches are played, whose Redis is flushed, restored or replaced, and
which says what of the matches in play was stopped, doubled or forgotten. Every session here is in play from its first
answer on: nobody releases one, so that none may ever be stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from redis.exceptions import RedisError

from tests.conftest import TestServer
from tests.crash.fleet import ALIVE, Fleet, Process, Simulator, start
from tests.crash.hasty_worker import PASSED

DEPLOYMENTS = ("north", "south")
ACCOUNT = "studio"
LEASE_SECONDS = 1.5
END_SECONDS = 60.0
DATA = "appendonlydir"


@dataclass(frozen=True, slots=True)
class Server:
    """Where a match is played."""

    session_id: str
    host: str
    ports: str
    endpoint: str

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Self:
        """What the allocation hash says."""
        return cls(*(fields.get(name, "") for name in ("session_id", "host", "ports", "endpoint")))


class Deployment(Fleet):
    """A fleet whose worker is hasty, and the servers that its matches were given."""

    def __init__(self, name: str, directory: Path, redis_url: str, gameye_url: str) -> None:
        settings = (f"gameye.account={ACCOUNT}", "reconciler.stops_per_minute_max=10000")
        super().__init__(name, directory, redis_url, gameye_url, lease_seconds=LEASE_SECONDS, settings=settings)
        self.playing: dict[str, Server] = {}

    async def worker(self, *settings: str, crash: str | None = None, wait: bool = True) -> Process:
        """Start a hasty worker."""
        assert crash is None, "a hasty worker does not kill itself"
        config = self._directory / f"{self.name}.toml"
        config.touch()
        options = [word for setting in (*self._options, *settings) for word in ("--set", setting)]
        name = f"{self.name}-worker-{len(self.workers) + 1}"
        words = ["tests.crash.hasty_worker", "worker", "--config", str(config), *options, "--print-address"]
        process = await start(name, self._directory, *words)
        self.workers.append(process)
        if wait:
            await process.first_line()
        return process

    async def servers(self, names: Sequence[str]) -> dict[str, Server]:
        """Where these matches are played, as far as Redis says that they are allocated."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(self.keys.allocation(name))
            found = await pipe.execute()
        return {
            name: Server.of(fields)
            for name, fields in zip(names, found, strict=True)
            if fields.get("state") == "allocated"
        }

    async def play(self, count: int, *, timeout_seconds: float = 60) -> None:
        """Ask for so many more matches, and wait until each has its server."""
        names = await self.submit(count, timeout_seconds=timeout_seconds)
        await self.finished(END_SECONDS)
        self.playing |= await self.servers(names)
        assert set(names) <= set(self.playing), f"not all were allocated: {self.tails()}"

    async def ask_again(self) -> None:
        """Send the request of every match once more, as it was, whatever Redis says while it comes back."""
        for name in self.asked:
            async with asyncio.timeout(END_SECONDS):
                while True:
                    with contextlib.suppress(RedisError):
                        await self.redis.xadd(*self.entry(name))
                        break
                    await asyncio.sleep(0.05)
        await self.finished(END_SECONDS)

    @property
    def passes(self) -> int:
        """How often its workers have held the provider's list against the records."""
        return sum(worker.log.read_text(errors="replace").count(PASSED) for worker in self.workers)


class Estate:
    """The simulated account, two deployments on it, and the server of the first."""

    def __init__(self, simulator: Simulator, server: TestServer, deployments: Sequence[Deployment]) -> None:
        self.simulator = simulator
        self.server = server
        self.deployments = deployments

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, servers: Sequence[TestServer], directory: Path, settings: Mapping[str, Any]
    ) -> AsyncIterator[Self]:
        """With one worker for each deployment; on one server both, or each on its own."""
        async with contextlib.AsyncExitStack() as stack:
            simulator = await stack.enter_async_context(Simulator.running(directory, settings))
            deployments = []
            for name, server in zip(DEPLOYMENTS, [*servers, servers[-1]], strict=False):
                fleet = await stack.enter_async_context(Deployment(name, directory, server.url, simulator.url))
                await fleet.worker()
                deployments.append(fleet)
            yield cls(simulator, servers[0], deployments)

    async def play(self, count: int, *, timeout_seconds: float = 60) -> None:
        """Bring so many more matches into play, shared out over the deployments."""
        share = count // len(self.deployments)
        async with asyncio.TaskGroup() as group:
            for each in self.deployments:
                group.create_task(each.play(share, timeout_seconds=timeout_seconds))

    async def settled(self, seconds: float) -> None:
        """Wait until for so long nothing has run but what is in play: all that landed late has been stopped."""
        playing = {server.session_id for each in self.deployments for server in each.playing.values()}
        async with asyncio.timeout(END_SECONDS):
            since = time.monotonic()
            while time.monotonic() - since < seconds:
                await asyncio.sleep(0.1)
                alive = {each["id"] for each in await self.simulator.sessions() if each["status"] in ALIVE}
                if alive != playing:
                    since = time.monotonic()

    async def watch(self, seconds: float, passes: int) -> list[str]:
        """What happened to the matches in play over that time, and over that many passes of each deployment."""
        until = time.monotonic() + seconds
        before = [each.passes for each in self.deployments]
        async with asyncio.timeout(seconds + END_SECONDS):
            while time.monotonic() < until or any(
                each.passes - since < passes for each, since in zip(self.deployments, before, strict=True)
            ):
                await asyncio.sleep(0.25)
                if stopped := await self.stopped():
                    return stopped
        return await self.stopped()

    async def stopped(self) -> list[str]:
        """Every session in play that does not run any more, and how it ended."""
        mine = {server.session_id: name for each in self.deployments for name, server in each.playing.items()}
        return [
            f"{mine[session['id']]}: {session['id']} {session['status']} ({session['ended_why']})"
            for session in await self.simulator.sessions()
            if session["id"] in mine and session["status"] not in ALIVE
        ]

    async def forgotten(self) -> list[str]:
        """After all was asked again: every match that was given another server than the one it is played on."""
        said = []
        for each in self.deployments:
            now = await each.servers(each.asked)
            said += [
                f"{name}: {server} became {now.get(name)}"
                for name, server in each.playing.items()
                if now.get(name) != server
            ]
        return said

    async def doubled(self) -> list[str]:
        """Every match with more than one server alive, by what the sessions' labels say."""
        alive = Counter(
            f"{session['labels'].get('allocator')}/{session['labels'].get('allocator_request')}"
            for session in await self.simulator.sessions()
            if session["status"] in ALIVE
        )
        return [f"{name}: {count} servers" for name, count in alive.items() if count > 1]

    def backup(self, place: Path) -> None:
        """Copy what the server has on disk, as a nightly backup does."""
        shutil.copytree(self.server.directory / DATA, place)

    def restore(self, place: Path) -> None:
        """Stop the server and start it with that copy."""
        self.server.stop()
        shutil.rmtree(self.server.directory / DATA)
        shutil.copytree(place, self.server.directory / DATA)
        self.server.start()

    def lose_to(self, replica: TestServer) -> None:
        """The server dies, and the replica, cut off before the tail, takes its place and its port."""
        self.server.kill()
        replica.command("CONFIG", "SET", "port", self.server.port)

    def workers_alive(self) -> bool:
        """Whether no worker ended over it."""
        return all(worker.running for each in self.deployments for worker in each.workers)

    def tails(self) -> str:
        """The end of every worker's log."""
        return json.dumps([each.tails() for each in self.deployments])
