"""A whole service on this machine: embedded server, simulated Gameye, workers; for `demo` and `dev`.

In: a directory and what the simulator shall be like. Out: a `Stage` with the URLs of what runs. Promises: everything
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

    def __init__(self, directory: Path, *, settings: str, regions: Sequence[str], workers: int) -> None:
        """`settings` is TOML with `{redis}` and `{gameye}` in the place of URLs; `regions` as `simulate` takes them."""
        self.directory = directory
        self._settings = settings
        self._regions = regions
        self._workers = workers
        self._server: EmbeddedServer | None = None
        self._processes: list[asyncio.subprocess.Process] = []
        self.redis_url = ""
        self.gameye_url = ""
        self.admin_urls: list[str] = []

    async def open(self, *, redis_port: int | None = None, gameye_port: int = 0, admin_port: int = 0) -> None:
        """Start everything; a port of 0 or None takes a free one. Raises StageError, EmbeddedUnavailable."""
        self._server = await EmbeddedServer.acquire(self.directory / "redis", port=redis_port)
        self.redis_url = self._server.url
        regions = [word for region in self._regions for word in ("--region", region)]
        simulator = await self._start("simulator", "simulate", "gameye", "--json", "--port", str(gameye_port), *regions)
        self.gameye_url = json.loads(await self._first_line(simulator, "simulator"))["url"]
        config = self.directory / "allocator.toml"
        config.write_text(self._settings.format(redis=self.redis_url, gameye=self.gameye_url), encoding="utf-8")
        for number in range(self._workers):
            port = admin_port + number if admin_port else 0
            options = ("--config", str(config), "--set", f"admin.port={port}", "--print-address")
            worker = await self._start(f"worker-{number + 1}", "worker", *options)
            self.admin_urls.append((await self._first_line(worker, f"worker-{number + 1}")).strip())

    async def close(self) -> None:
        """End everything, the workers first, so that they can finish what they are at."""
        for process in reversed(self._processes):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    async with asyncio.timeout(STOP_SECONDS):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
        if self._server is not None:
            await self._server.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())

    async def _start(self, name: str, *command: str) -> asyncio.subprocess.Process:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ALLOCATOR_")}
        with (self.directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "allocator", *command),
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
