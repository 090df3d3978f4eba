"""A web application on an address of this process: how it is opened, who is let in, how it ends.

In: an application, an address, the table of the settings that names it. Out: the port and the URL that it serves on,
while it is entered. Promises: however many connections are opened, few are kept, and those that ask nothing give way to
who does; where all are being answered the next one is told to come again; a reader that hangs holds up nobody's drain.
What is answered, and to whom, is the application's to say.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from allocator.telemetry.structured import structlog

SELDOM_SECONDS = 60.0
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_log = structlog.get_logger("allocator")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AddressError(Exception):
    """An address cannot be served; the message names the setting to change."""


class Seldom:
    """True once a minute, for what could be said all the time."""

    def __init__(self) -> None:
        self._said_at = float("-inf")

    def __call__(self) -> bool:
        """Whether to say it now."""
        now = asyncio.get_running_loop().time()
        if now - self._said_at < SELDOM_SECONDS:
            return False
        self._said_at = now
        return True


class Door:
    """One address of one process."""

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        *,
        table: str,
        connections_max: int,
        answer_seconds: float = 0.5,
    ) -> None:
        """Port 0 takes any free one. At the end, answers under way are waited for at most `answer_seconds`."""
        app.middlewares.append(self._attended)
        self._app = app
        self._host = host
        self._wanted_port = port
        self._table = table
        self._connections_max = connections_max
        self._answer_seconds = answer_seconds
        self._asking: Counter[asyncio.BaseProtocol] = Counter()
        """Connections that wait for an answer."""
        self._seldom = Seldom()
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
        runner = web.AppRunner(
            self._app,
            access_log=None,
            shutdown_timeout=self._answer_seconds,
            handler_cancellation=True,  # who has hung up waits for nothing
            auto_decompress=False,  # a few bytes would unpack to hundreds of megabytes, before anyone has been let in
        )
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
        """Take one more connection; where there are too many, the oldest that asks nothing gives way."""
        server = runner.server
        if server is None:
            raise RuntimeError("connections are taken between a runner's setup and its cleanup only")
        held = [each for each in server.connections if each.transport is not None]  # the others are on their way out
        over = max(0, len(held) + 1 - self._connections_max)
        idle = [each for each in held if each not in self._asking][:over]
        if len(idle) < over:
            if self._seldom():
                _log.warning("connections are turned away", address=self._table, connections_max=self._connections_max)
            return _Full()
        for oldest in idle:
            oldest.force_close()
        return server()

    @web.middleware
    async def _attended(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._asking[request.protocol] += 1
        try:
            return await handler(request)
        finally:
            self._asking[request.protocol] -= 1
            if not self._asking[request.protocol]:
                del self._asking[request.protocol]


class _Full(asyncio.Protocol):
    """What the next one gets where all that are open are being answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say so, and end it."""
        if isinstance(transport, asyncio.Transport):
            transport.write(_FULL)
            transport.close()


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
