"""One worker process as its supervisor sees it.

In: the command that starts it. Out: its reports, then its exit code; signals and what its hooks are to hear go the
other way. Promises: no signal reaches it twice, since it is in a session of its own and hears nothing of what a
terminal sends; a SIGHUP that comes while it starts is passed on once it can take one. When to replace it is the
supervisor's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Self

from allocator.service.supervisor_report import END, REPORT_BYTES_MAX, Report, read_report
from allocator.service.supervisor_telling import Seat, write_told

UNREAD_BYTES_MAX = 1024 * 1024
"""What a process has been told and not read; beyond it nothing more is told, which costs a look and no more."""

START_SECONDS = 60.0
"""So long may pass before the first report: imports on a busy machine, a Redis that is far away."""


class Child:
    """A process that was started; `well_at` is when it was last known to be well, on the loop's clock."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.number = number
        self.report: Report | None = None
        self.has_served = False
        self.started_at = self.well_at = asyncio.get_running_loop().time()
        self._process = process
        self._reader = reader
        self._writer = writer
        self._reload_later = False

    @classmethod
    async def start(cls, command: Sequence[str], number: int) -> Self:
        """Start it with `--seat` after the command. Raises OSError where the system refuses."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=REPORT_BYTES_MAX)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(*command, "--seat", str(Seat(number, theirs.fileno()))),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except BaseException:
                writer.close()
                raise
        return cls(number, process, reader, writer)

    @property
    def id(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it said last that it takes requests up."""
        return self.report is not None and self.report.unready is None

    def silent_seconds(self, now: float) -> float:
        """How long ago it was last known to be well; of one that starts, how much longer than it may."""
        return now - self.well_at - (START_SECONDS if self.report is None else 0.0)

    async def listen(self, hear: Callable[[Report], None]) -> int:
        """Pass its reports on until it has ended; its exit code, negative where a signal ended it."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                self._take(read_report(await self._reader.readuntil(END)))
                if self.report is not None:
                    hear(self.report)
        self._writer.close()
        return await self._process.wait()

    def tell(self, told: bytes) -> None:
        """Let one of its hooks hear this."""
        if self._writer.transport.get_write_buffer_size() < UNREAD_BYTES_MAX:
            self._writer.write(write_told(told))

    def drain(self) -> None:
        """Let it end in good order."""
        self._send(signal.SIGTERM)

    def reload(self) -> None:
        """Let it read its settings again; before its first report it could not survive the signal."""
        if self.report is None:
            self._reload_later = True
        else:
            self._send(signal.SIGHUP)

    def kill(self) -> None:
        """End it now; harmless when it has ended."""
        self._send(signal.SIGKILL)

    def _take(self, report: Report) -> None:
        self.report = report
        self.has_served = self.has_served or self.is_ready
        if report.unwell is None:
            self.well_at = asyncio.get_running_loop().time()
        if self._reload_later:
            self._reload_later = False
            self._send(signal.SIGHUP)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
