"""A web application on an address of this process: how it is opened, who is let in, how it ends.

In: an application, an address, the table of the settings that names it. Out: the port and the URL that it serves on,
while it is entered. Promises: however many connections are opened, few are kept and the next still gets in; a reader
that hangs holds up nobody's drain. What is answered, and to whom, is the application's to say.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from types import TracebackType
from typing import Self

from aiohttp import web

_SHUTDOWN_SECONDS = 0.5
"""How long answers under way are waited for at the end; a reader that hangs must not hold up a drain."""


class AddressError(Exception):
    """An address cannot be served; the message names the setting to change."""


class Door:
    """One address of one process."""

    def __init__(self, app: web.Application, host: str, port: int, *, table: str, connections_max: int) -> None:
        """Port 0 takes any free one. Over `connections_max` the oldest connections give way to new ones."""
        self._app = app
        self._host = host
        self._wanted_port = port
        self._table = table
        self._connections_max = connections_max
        self._port: int | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it serves on."""
        if self._port is None:
            raise RuntimeError(f"the {self._table} address is not served yet; enter it with `async with` first")
        return self._port

    @property
    def url(self) -> str:
        """Where it serves, for who asks from this machine."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def addresses(self) -> list[str]:
        """Those that it listens on."""
        return [] if self._listener is None else [each.getsockname()[0] for each in self._listener.sockets]

    async def __aenter__(self) -> Self:
        """Serve. Raises AddressError."""
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            listener = await asyncio.get_running_loop().create_server(
                lambda: self._admit(runner), self._host, self._wanted_port
            )
        except OSError as error:
            await runner.cleanup()
            raise AddressError(_sentence(error, self._table, self._host, self._wanted_port)) from error
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._listener = listener
        self._port = listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _admit(self, runner: web.AppRunner) -> asyncio.Protocol:
        """Take one more connection; the oldest give way where there are too many."""
        server = runner.server
        if server is None:
            raise RuntimeError("connections are taken between a runner's setup and its cleanup only")
        held = server.connections
        for oldest in held[: max(0, len(held) + 1 - self._connections_max)]:
            oldest.force_close()
        return server()


def _sentence(error: OSError, table: str, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        mend = f"end what listens there or set {table}.port to another, 0 for any"
        return f"{table}.port {port} is in use on {host}; {mend}"
    if error.errno == errno.EACCES:
        return f"{table}.port {port} on {host} may not be used by this user; set {table}.port to one above 1023"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        mend = f"set {table}.host to one that is, such as 127.0.0.1"
        return f"{table}.host {host!r} is no address of this machine; {mend}"
    return f"{table}.host {host!r} with {table}.port {port} cannot be served: {error.strerror}; set another address"
