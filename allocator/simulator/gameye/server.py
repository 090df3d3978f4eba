"""The simulated Gameye as one object: serves while it is entered, and is looked at from Python meanwhile.

In: settings, an address, a clock. Out: a base URL, the ledger. It promises that it serves once `__aenter__` returns and
that nothing of it is left after `__aexit__`, also where callers hang on answers that were never to come.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from allocator.simulator.gameye.api import VendorApi
from allocator.simulator.gameye.clock import Clock
from allocator.simulator.gameye.control import ControlDoor
from allocator.simulator.gameye.fleet import Fleet
from allocator.simulator.gameye.ledger import Ledger
from allocator.simulator.gameye.settings import SimulatorSettings

_BACKLOG = 4096
_SHUTDOWN_SECONDS = 0.25
"""How long answers under way are waited for at the end; those that hang on purpose never come."""


class GameyeSimulator:
    """A simulated Gameye on this machine."""

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or SimulatorSettings()
        self._host = host
        self._port = port
        self._clock = clock or Clock()
        self._fleet = Fleet(self._settings, self._clock)
        self._runner: web.AppRunner | None = None
        self._base_url: str | None = None

    @property
    def base_url(self) -> str:
        """Where it serves, without a slash at the end."""
        if self._base_url is None:
            raise RuntimeError("the simulator does not serve yet; enter it with `async with` first")
        return self._base_url

    @property
    def ledger(self) -> Ledger:
        """All that was asked for and started up to this moment; ask anew to see what time has brought since."""
        self._fleet.settle()
        return self._fleet.ledger

    @property
    def fleet(self) -> Fleet:
        """The sessions themselves, to stop them or put them into a state without HTTP; another one after `reset`."""
        return self._fleet

    def apply(self, settings: SimulatorSettings) -> None:
        """Go by other settings from now on; sessions, and rates already used, stay as they are."""
        self._settings = settings
        self._fleet.apply(settings)

    def reset(self) -> None:
        """Begin again with the same settings: no sessions, no POSTs, dice as at the start."""
        self._fleet = Fleet(self._settings, self._clock)

    async def __aenter__(self) -> Self:
        api = VendorApi(lambda: self._fleet, self._clock)
        control = ControlDoor(lambda: self._fleet, apply=self.apply, reset=self.reset)

        @web.middleware
        async def errors_as_the_vendors(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as error:
                return api.unrouted(request, error.status, error.reason)

        app = web.Application(middlewares=[errors_as_the_vendors])
        app.add_routes([*api.routes(), *control.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await self._runner.setup()
            site = web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG)
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        address = self._runner.addresses[0]
        self._base_url = f"http://{_bracketed(address[0])}:{address[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def _bracketed(host: str) -> str:
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return host
    return f"[{host}]"
