"""A whole service on this machine: embedded server, simulated hosts, workers; for `demo` and `dev`.

In: a directory and what the hosts shall be like. Out: a `Stage` with the URLs of what runs. Promises: everything
listens on loopback; nothing is left running once it is closed, whichever way that comes; each process logs into the
directory. The settings that the workers use lie there as `allocator.toml`, a file to begin one's own with.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from allocator.redis_io.embedded import EmbeddedServer

START_SECONDS = 20.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05


class StageError(Exception):
    """Something did not start; the message says what, and where its log is."""


class Stage:
    """What runs, until closed."""

    def __init__(
        self,
        directory: Path,
        *,
        settings: str,
        regions: Sequence[str],
        workers: int,
        faults: Sequence[str] = (),
        edgegap: Sequence[str] | None = None,
    ) -> None:
        """`settings` is TOML with `{redis}`, `{gameye}` and `{edgegap}` in the place of URLs.

        `regions` and `faults` are as `simulate gameye` takes them. `edgegap` are options of `simulate edgegap`; None
        leaves that host out.
        """
        self.directory = directory
        self._settings = settings
        self._regions = regions
        self._faults = faults
        self._edgegap = edgegap
        self._wanted_workers = workers
        self._workers: list[asyncio.subprocess.Process] = []
        self._server: EmbeddedServer | None = None
        self._processes: list[asyncio.subprocess.Process] = []
        self.redis_url = ""
        self.gameye_url = ""
        self.edgegap_url = ""
        self.admin_urls: list[str] = []

    async def open(
        self, *, redis_port: int | None = None, gameye_port: int = 0, edgegap_port: int = 0, admin_port: int = 0
    ) -> None:
        """Start everything; a port of 0 or None takes a free one. Raises StageError, EmbeddedUnavailable."""
        self._server = await EmbeddedServer.acquire(self.directory / "redis", port=redis_port)
        self.redis_url = self._server.url
        self.gameye_url = await self.simulator("simulator", port=gameye_port)
        if self._edgegap is not None:
            self.edgegap_url = await self._simulate("simulator-edgegap", "edgegap", edgegap_port, self._edgegap)
        urls = {"redis": self.redis_url, "gameye": self.gameye_url, "edgegap": self.edgegap_url}
        config = self.directory / "allocator.toml"
        config.write_text(self._settings.format(**urls), encoding="utf-8")
        for number in range(self._wanted_workers):
            port = admin_port + number if admin_port else 0
            worker = await self._start_worker(number, port)
            self._workers.append(worker)
            self.admin_urls.append((await self._first_line(worker, f"worker-{number + 1}")).strip())

    async def simulator(self, name: str, *, port: int = 0) -> str:
        """Start a simulated Gameye with the regions and faults of this stage; its URL."""
        options = [word for region in self._regions for word in ("--region", region)]
        options += [word for fault in self._faults for word in ("--fault", fault)]
        return await self._simulate(name, "gameye", port, options)

    async def _simulate(self, name: str, vendor: str, port: int, options: Sequence[str]) -> str:
        process = await self.start(name, "allocator", "simulate", vendor, "--json", "--port", str(port), *options)
        url: str = json.loads(await self._first_line(process, name))["url"]
        return url

    async def kill_worker(self, number: int) -> None:
        """End one worker with SIGKILL, and start another in its place."""
        worker = self._workers[number]
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()
        self._workers[number] = await self._start_worker(number, 0)

    async def close(self) -> None:
        """End everything, the workers first, so that they can finish what they are at."""
        for process in reversed(self._processes):
            await end(process)
        if self._server is not None:
            await self._server.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())

    async def _start_worker(self, number: int, port: int) -> asyncio.subprocess.Process:
        options = ("--config", str(self.directory / "allocator.toml"), "--set", f"admin.port={port}", "--print-address")
        return await self.start(f"worker-{number + 1}", "allocator", "worker", *options)

    async def start(self, name: str, module: str, *words: str) -> asyncio.subprocess.Process:
        """Start a module of this package as a process that logs under this name."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ALLOCATOR_")}
        with (self.directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                # Ctrl-C is ours to pass on: in a group of their own they do not hear it twice.
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    async def _first_line(self, process: asyncio.subprocess.Process, name: str) -> str:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            log = self.directory / f"{name}.log"
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise StageError(f"{name} did not start; {' '.join(last) or 'its log is empty'} (log: {log})")
        return line.decode()


def stop_signals(stop: asyncio.Event) -> None:
    """Let Ctrl-C and SIGTERM set the event instead of ending the process."""
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(each, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(each, lambda *_: loop.call_soon_threadsafe(stop.set))


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process that may have ended: gently, and after a while for good."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
