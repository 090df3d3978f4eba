"""The processes of a bench: a server, a provider, workers or bare loops, each on its cores.

In: a `Setup`. Out: a `Rig` with a connection to Redis and the provider's process, and for each round a fleet. Promises:
everything listens on loopback; whatever it started has ended once it is closed, whichever way that comes; of keys that
are forgotten nothing is left, also on a server that others use. Cores are handed on by inheritance, so that every
thread of a process keeps to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from allocator.cli.bench.plan import Cores, Setup, Side, share_out
from allocator.cli.stage import StageError, end
from allocator.contract.keys import Keys
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.embedded import EmbeddedServer
from allocator.redis_io.errors import CommandFault, RedisUrlError
from allocator.redis_io.server import parse_info
from allocator.redis_io.url import ClusterTarget, parse_url

START_SECONDS = 30.0
DEFAULT_BACKLOG = 1024
"""Of a worker; with more calls than that there would be nothing to take up while they are out."""
SCAN_COUNT = 2000
SHRINK_POLL_SECONDS = 0.05

Process = asyncio.subprocess.Process

_SETTINGS = """\
deployment = "{name}"
namespace = "{name}"
request_timeout_seconds = 3600

[redis]
url = {redis}

[gameye]
base_url = {provider}
account = "{name}"
token = "bench"

[worker]
concurrency = {in_flight}
backlog = {backlog}
"""
_REGION = """
[regions.{region}]
rate = 100000
burst = 1000
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What serves one round."""

    side: Side
    keys: Keys
    processes: tuple[Process, ...]

    def signal(self, number: int) -> None:
        """Send a signal to each that still runs."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


class Rig:
    """What runs for the whole bench, until closed."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.cores = share_out(_own_cores(), setup.processes) if setup.pin and setup.redis_url is None else None
        self._stack = contextlib.AsyncExitStack()
        self._directory = Path()
        self._redis_url = ""
        self._provider_url = ""
        self._connection: RedisConnection | None = None
        self._provider: Process | None = None

    @property
    def connection(self) -> RedisConnection:
        """The bench's own connection to Redis."""
        assert self._connection is not None  # noqa: S101 - entered
        return self._connection

    @property
    def provider(self) -> Process:
        """The stub, or the simulator."""
        assert self._provider is not None  # noqa: S101 - entered
        return self._provider

    async def __aenter__(self) -> Self:
        """Start the server and the provider. StageError, RedisFault, RedisUrlError: one of them cannot be had."""
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(self._stack.aclose())

    async def _open(self) -> None:
        made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="allocator-bench-"))
        self._directory = Path(made)
        if self.cores is not None:
            self._stack.enter_context(_on(self.cores.others))
        if self.setup.redis_url is None:
            server = await EmbeddedServer.acquire(self._directory / "redis")
            self._stack.push_async_callback(server.release)
            self._redis_url = server.url
        else:
            if isinstance(parse_url(self.setup.redis_url), ClusterTarget):
                raise RedisUrlError(
                    "a bench reads the meters of one server, and cleans up on one: give no cluster's URL"
                )
            self._redis_url = self.setup.redis_url
        self._connection = await self._stack.enter_async_context(await connect(self._redis_url, name="bench"))
        self._provider = await self._start("provider", *self._provider_words())
        self._stack.push_async_callback(end, self._provider)
        line = await self._first_line(self._provider, "provider")
        self._provider_url = json.loads(line)["url"] if self.setup.simulator else line.strip()

    @contextlib.asynccontextmanager
    async def fleet(self, side: Side, keys: Keys) -> AsyncIterator[Fleet]:
        """Serving processes that are ready, and have ended after it."""
        config = self._directory / f"{keys.namespace}.toml"
        config.write_text(self._settings(keys.namespace), encoding="utf-8")
        processes: list[Process] = []
        try:
            with _on(self.cores.workers) if self.cores else contextlib.nullcontext():
                for number in range(self.setup.processes):
                    words = _words(side, config, number)
                    processes.append(await self._start(f"{keys.namespace}-{number}", *words))
            for number, process in enumerate(processes):
                await self._first_line(process, f"{keys.namespace}-{number}")
            yield Fleet(side, keys, tuple(processes))
        finally:
            await asyncio.shield(asyncio.gather(*(end(process) for process in processes)))

    async def forget(self, keys: Keys) -> None:
        """Remove all that a round has left in Redis."""
        cursor: bytes | int = 0
        while True:
            # The namespace is part of the gate's keys too, as the account's name.
            scan = ("SCAN", cursor, "MATCH", f"*{keys.namespace}*", "COUNT", SCAN_COUNT)
            cursor, found = await self.connection.execute(*scan)
            if found:
                await self.connection.execute("UNLINK", *found)
            if int(cursor) == 0:
                break
        if self.setup.redis_url is None:
            await self._shrink_file()

    async def _shrink_file(self) -> None:
        """Have our own server write its file anew now, not in the middle of a later round."""
        await self._until_written()  # it may have begun by itself, and refuses to begin again
        with contextlib.suppress(CommandFault):  # so it has begun since: as good
            await self.connection.execute("BGREWRITEAOF")
        await self._until_written()

    async def _until_written(self) -> None:
        while True:
            info = parse_info(await self.connection.execute("INFO", "persistence"))
            if info["aof_rewrite_in_progress"] == info["aof_rewrite_scheduled"] == "0":
                return
            await asyncio.sleep(SHRINK_POLL_SECONDS)

    def _settings(self, name: str) -> str:
        head = _SETTINGS.format(
            name=name,
            redis=json.dumps(self._redis_url),
            provider=json.dumps(self._provider_url),
            in_flight=self.setup.in_flight,
            backlog=max(DEFAULT_BACKLOG, self.setup.in_flight * 5 // 4),
        )
        return head + "".join(_REGION.format(region=region) for region in self.setup.region_names())

    def _provider_words(self) -> list[str]:
        latency = f"{self.setup.provider_latency_ms:g}"
        if not self.setup.simulator:
            return ["allocator.cli.bench.stub", latency]
        regions = [
            word for region in self.setup.region_names() for word in ("--region", f"{region}:latency_ms={latency}")
        ]
        return ["allocator", "simulate", "gameye", "--json", *regions]

    async def _start(self, name: str, *words: str) -> Process:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("ALLOCATOR_", "OTEL_"))}
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = self._provider_url  # which the traced ones alone look at
        with (self._directory / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                # Ctrl-C is ours to pass on: in a session of their own they do not hear it.
                start_new_session=True,
            )

    async def _first_line(self, process: Process, name: str) -> str:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        if not line:
            raise StageError(f"{name} did not start; {self.last_words(name)}")
        return line.decode()

    def last_words(self, name: str) -> str:
        """The last line of a process's log."""
        text = (self._directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return (text.strip().splitlines() or ["its log is empty"])[-1]


def fresh_keys() -> Keys:
    """Keys that nobody has."""
    return Keys(f"bench-{secrets.token_hex(6)}")


def _words(side: Side, config: Path, number: int) -> tuple[str, ...]:
    worker = ("allocator", "worker", "--config", str(config), "--set", "admin.port=0", "--print-address")
    match side:
        case Side.ALLOCATOR:
            return worker
        case Side.TRACED:
            return (*worker, "--set", "telemetry.traces=otlp")
        case Side.BARE:
            return ("allocator.cli.bench.bare", str(config), f"bare-{number}")


def _own_cores() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()


@contextlib.contextmanager
def _on(cores: frozenset[int]) -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, to these cores."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


__all__ = ["Cores", "Fleet", "Rig", "fresh_keys"]
