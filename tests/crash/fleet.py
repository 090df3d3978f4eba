"""A fleet of real processes: the simulated provider and workers against a real Redis, to be killed and counted.

In: a Redis URL, what the provider shall be like, settings that differ. Out: a `Fleet` to submit to, whose workers are
started, killed and stopped by a test, and an `Account` of what is left once all is calm. Promises: everything listens
on loopback, each fleet has a namespace, a deployment and a provider account of its own, and no process outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from allocator.contract.keys import Keys
from allocator.contract.request import Priority
from tests.crash.account import Account

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
POLL_SECONDS = 0.05
IMAGE = "chaos"
ALIVE = frozenset({"created", "running", "restarting", "draining", "server_unreachable"})


class ProcessEnded(Exception):  # noqa: N818 - what a test may wait for
    """A process ended before it said where it listens."""


class Process:
    """One process of a fleet, and what it wrote to its log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def id(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self, seconds: float = START_SECONDS) -> int:
        """Its exit code; negative where a signal ended it."""
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it as a power cut does."""
        self.signal(signal.SIGKILL)
        await self._process.wait()

    async def first_line(self) -> str:
        """What it says first on stdout."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise ProcessEnded(f"{self.name}: {self.tail()}")
        return line.decode().strip()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


async def start(name: str, directory: Path, *command: str) -> Process:
    """Start `python -m COMMAND`; its stderr goes to a log in the directory."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ALLOCATOR_")}
    log = directory / f"{name}.log"
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
    return Process(name, process, log)


class Simulator:
    """The simulated provider as its own process."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self.port = int(url.rpartition(":")[2])

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path, settings: Mapping[str, Any]) -> AsyncIterator[Self]:
        process = await start("simulator", directory, "allocator", "simulate", "gameye", "--json")
        try:
            simulator = cls(process, json.loads(await process.first_line())["url"])
            await simulator.become(settings)
            yield simulator
        finally:
            await process.kill()

    async def become(self, settings: Mapping[str, Any]) -> None:
        """Behave like this from now on."""
        async with aiohttp.ClientSession() as http, http.put(f"{self.url}/_simulator/settings", json=settings) as reply:
            assert reply.status == 204, await reply.text()

    async def sessions(self) -> list[dict[str, Any]]:
        """Every session that was ever started."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/_simulator/ledger") as reply:
            sessions: list[dict[str, Any]] = (await reply.json())["sessions"]
            return sessions

    async def counts(self) -> dict[str, Any]:
        """The counts of the ledger."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/_simulator/ledger?sessions=false") as reply:
            counts: dict[str, Any] = await reply.json()
            return counts


class Fleet:
    """Workers of one deployment in one namespace, and the matches that were asked of them."""

    def __init__(
        self,
        name: str,
        directory: Path,
        redis_url: str,
        gameye_url: str,
        *,
        lease_seconds: float = 1.0,
        settings: Sequence[str] = (),
        watch_url: str | None = None,
    ) -> None:
        """`settings` as `worker --set` takes them; `watch_url`: where the test looks, if not where the workers do."""
        self.name = name
        self.keys = Keys(name)
        self.asked: list[str] = []
        self.workers: list[Process] = []
        self._directory = directory
        self._options = [
            *(f"deployment={name}", f"namespace={name}", f"redis.url={redis_url}"),
            *(f"gameye.base_url={gameye_url}", f"gameye.account={name}", "gameye.token=t", "admin.port=0"),
            *("unknown_regions=default", "region_defaults.rate=500", "region_defaults.burst=20"),
            *(f"worker.lease_seconds={lease_seconds}", *settings),
        ]
        self.redis = Redis.from_url(
            watch_url or redis_url, protocol=2, decode_responses=True, retry=Retry(NoBackoff(), 0)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            await worker.kill()
        await self.redis.aclose()

    async def worker(self, *settings: str, crash: str | None = None, wait: bool = True) -> Process:
        """Start a worker; `crash` names the step at which it kills itself, see `crashing_worker`."""
        program = ["allocator", "worker"] if crash is None else ["tests.crash.crashing_worker", crash, "worker"]
        config = self._directory / f"{self.name}.toml"
        config.touch()
        options = [word for setting in (*self._options, *settings) for word in ("--set", setting)]
        name = f"{self.name}-worker-{len(self.workers) + 1}"
        process = await start(name, self._directory, *program, "--config", str(config), *options, "--print-address")
        self.workers.append(process)
        if wait:
            await process.first_line()
        return process

    async def submit(self, count: int, **options: Any) -> list[str]:
        """Ask for so many matches at once; their ids."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for _ in range(count):
                self.add(pipe, **options)
            await pipe.execute()
        return self.asked[-count:]

    def add(
        self,
        pipe: Any,
        *,
        regions: Sequence[str] = ("europe", "us-east"),
        timeout_seconds: float = 60,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Put the XADD of one match into a pipeline; `body` lays over what is asked."""
        name = str((body or {}).get("id") or f"m-{len(self.asked)}")
        self.asked.append(name)
        pipe.xadd(*self.entry(name, regions=regions, timeout_seconds=timeout_seconds, body=body))

    def entry(
        self,
        name: str,
        *,
        regions: Sequence[str] = ("europe", "us-east"),
        timeout_seconds: float = 60,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[str, Any]:
        """The stream and the fields by which a match is asked for; the same ones ask again."""
        asked = {"id": name, "image": IMAGE, "regions": list(regions), "timeout_seconds": timeout_seconds}
        return self.keys.requests(Priority.NORMAL), {"request": json.dumps({**asked, **(body or {})})}

    async def cancel(self, name: str) -> None:
        """Want no server for this id any more."""
        await self.redis.xadd(f"{self.keys.prefix}:cancellations", {"id": name})

    async def account(self, simulator: Simulator) -> Account:
        """What is recorded and what runs, at this moment."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in self.asked:
                pipe.hgetall(self.keys.allocation(name))
            pipe.xrange(self.keys.results)
            for priority in Priority:
                pipe.xlen(self.keys.requests(priority))
            pipe.zcard(self.keys.leases)
            *hashes, results, high, normal, low, leases = await pipe.execute()
        mine = [session for session in await simulator.sessions() if session["labels"].get("allocator") == self.name]
        return Account(
            deployment=self.name,
            hashes=dict(zip(self.asked, hashes, strict=True)),
            results=[fields for _, fields in results],
            alive=[session for session in mine if session["status"] in ALIVE],
            started=mine,
            waiting=high + normal + low,
            leases=leases,
        )

    async def ends(self) -> int:
        """How many matches have their last state."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in self.asked:
                pipe.hget(self.keys.allocation(name), "final")
            return (await pipe.execute()).count("1")

    async def finished(self, seconds: float) -> None:
        """Wait until every match has its last state."""
        deadline = time.monotonic() + seconds
        done = 0
        while done < len(self.asked):
            with contextlib.suppress(RedisError):
                done = await self.ends()
            if time.monotonic() > deadline:
                raise AssertionError(f"{done} of {len(self.asked)} ended after {seconds:g} s; {self.tails()}")
            await asyncio.sleep(POLL_SECONDS)

    async def calm(self, simulator: Simulator, seconds: float, *, steady_seconds: float = 0.0) -> Account:
        """Wait until nothing has been wrong for a while, at most so long, and give the account either way."""
        deadline = time.monotonic() + seconds
        steady_since: float | None = None
        while True:
            account = await self.account(simulator)
            now = time.monotonic()
            if account.faults():
                steady_since = None
            elif steady_since is None:
                steady_since = now
            if now > deadline or (steady_since is not None and now - steady_since >= steady_seconds):
                return account
            await asyncio.sleep(0.25)

    def tails(self) -> str:
        """The end of every worker's log."""
        return " | ".join(f"{worker.name}: {worker.tail()[-600:]}" for worker in self.workers)
