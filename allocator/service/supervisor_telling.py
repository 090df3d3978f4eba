"""How a worker process tells its supervisor of itself: the other end of what `supervisor_child` listens at.

In: a socket that the supervisor opened before it started this process, and what it passes on to the hooks. Out: a
report every second, and a last one at the end. Promises: nothing listens and no path is left behind; when the
supervisor is gone, however it went, its end of the socket closes and this process is told to leave: nobody serves on
without an admin address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from allocator.service.admin import Ask, Hooks
from allocator.service.supervisor_report import write_report
from allocator.telemetry.structured import structlog

TELL_SECONDS = 1.0
"""What a process has counted since its last report is lost to the sums when it is killed."""

TELL_AT_FIRST_SECONDS = 0.1
"""Until it is ready, which is what the other processes wait for."""

_LAST_WORDS_SECONDS = 0.5
_LENGTH_BYTES = 4

_log = structlog.get_logger("allocator")


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a process under its supervisor: its number, and the descriptor of the socket between them."""

    number: int
    descriptor: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what the supervisor wrote on the command line. Raises ValueError."""
        number, _, descriptor = text.partition(":")
        return cls(int(number), int(descriptor))

    def __str__(self) -> str:
        return f"{self.number}:{self.descriptor}"


def write_told(told: bytes) -> bytes:
    """How the supervisor passes on what came in by a hook."""
    return len(told).to_bytes(_LENGTH_BYTES) + told


class Telling:
    """Tells while it is entered."""

    def __init__(
        self,
        seat: Seat,
        *,
        registry: CollectorRegistry,
        ready: Ask,
        alive: Ask,
        abandoned: Callable[[], None],
        hooks: Hooks | None = None,
    ) -> None:
        """`abandoned` is called once when the supervisor is gone; `hooks` hear what comes in at its admin address."""
        self._seat = seat
        self._registry = registry
        self._ready = ready
        self._alive = alive
        self._abandoned = abandoned
        self._hooks = {} if hooks is None else hooks
        self._tasks: list[asyncio.Task[None]] = []
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        """Take the seat; the first report follows at the next turn of the loop."""
        reader, self._writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=self._seat.descriptor))
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._tell(self._writer)), loop.create_task(self._notice(reader))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self._writer is None:
            return
        # a supervisor that was killed has closed the way: asyncio says OSError, uvloop a RuntimeError
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                # Whole reports alone are ever written, so this one follows a whole one.
                self._writer.write(await self._report())
                self._writer.close()
                await self._writer.wait_closed()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # `_notice` sees to it
            while True:
                writer.write(await self._report())
                await writer.drain()
                await asyncio.sleep(TELL_AT_FIRST_SECONDS if self._ready() else TELL_SECONDS)

    async def _notice(self, reader: asyncio.StreamReader) -> None:
        """Hear what the supervisor passes on, until its end."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
                told = await reader.readexactly(length)
                for hears in self._hooks.values():
                    hears(told)
        _log.warning("the supervisor is gone; draining")
        self._abandoned()

    async def _report(self) -> bytes:
        return await write_report(self._ready(), self._alive(), self._registry, self._hooks)
