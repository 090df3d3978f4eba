"""The simulated Edgegap as one object: serves while it is entered, and is looked at from Python meanwhile.

In: settings, an address, a clock. Out: a base URL, the ledger. It promises that it serves once `__aenter__` returns,
that states are entered and webhooks sent when they are due without anybody asking, and that nothing of it is left after
`__aexit__`.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from aiohttp import web

from allocator.simulator.clock import Clock
from allocator.simulator.edgegap.api import DeploymentApi
from allocator.simulator.edgegap.catalog_api import CatalogApi
from allocator.simulator.edgegap.catalog_front import CatalogFront
from allocator.simulator.edgegap.control import ControlDoor
from allocator.simulator.edgegap.fleet import Fleet
from allocator.simulator.edgegap.front import Front
from allocator.simulator.edgegap.ledger import Ledger
from allocator.simulator.edgegap.settings import SimulatorSettings
from allocator.simulator.edgegap.storage_api import StorageApi
from allocator.simulator.edgegap.webhooks import Webhooks
from allocator.simulator.serving import Serving


class EdgegapSimulator:
    """A simulated Edgegap on this machine."""

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or SimulatorSettings()
        self._clock = clock or Clock()
        self._serving = Serving(host, port)
        self._front = Front(lambda: self._fleet, self._clock, self._settings.seed)
        self._api = DeploymentApi(self._front, self._clock)
        self._webhooks = Webhooks(lambda: self._fleet, self._clock, self._api.describe)
        self._wake = asyncio.Event()
        self._playing: asyncio.Task[None] | None = None
        self._fleet = self._new_fleet()

    @property
    def base_url(self) -> str:
        """Where it serves, without a slash at the end."""
        return self._serving.base_url

    @property
    def ledger(self) -> Ledger:
        """All that was asked for and deployed up to this moment; ask anew to see what time has brought since."""
        self._fleet.settle()
        return self._fleet.ledger

    @property
    def fleet(self) -> Fleet:
        """The deployments themselves, to stop them or put them into a state without HTTP; another after `reset`."""
        return self._fleet

    def apply(self, settings: SimulatorSettings) -> None:
        """Go by other settings from now on; deployments, catalogue and rates already used stay as they are."""
        self._settings = settings
        self._fleet.apply(settings)

    def reset(self) -> None:
        """Begin again with the same settings: no deployments, no calls, the catalogue and the dice as at the start."""
        self._fleet = self._new_fleet()
        self._wake.set()

    async def __aenter__(self) -> Self:
        self._webhooks.open()
        try:
            await self._serving.open(self._routes(), self._front.unrouted)
        except BaseException:
            await self._webhooks.close()
            raise
        self._playing = asyncio.get_running_loop().create_task(self._play())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._serving.close()
        await self._webhooks.close()
        if self._playing is not None:
            self._playing.cancel()
            (ended,) = await asyncio.gather(self._playing, return_exceptions=True)
            if isinstance(ended, Exception):  # a fault of ours, which nobody has heard of yet
                raise ended

    def _routes(self) -> list[web.RouteDef]:
        control = ControlDoor(lambda: self._fleet, apply=self.apply, reset=self.reset)
        catalog = CatalogFront(self._front)
        apis = (self._api, CatalogApi(catalog), StorageApi(catalog), control)
        return [route for api in apis for route in api.routes()]

    def _new_fleet(self) -> Fleet:
        return Fleet(self._settings, self._clock, told=self._webhooks.tell, scheduled=self._wake.set)

    async def _play(self) -> None:
        """Let states be entered when they are due: nobody may be asking, but webhooks wait for it."""
        while True:
            self._wake.clear()
            self._fleet.settle()
            due = self._fleet.next_due_seconds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock.monotonic())):
                    await self._wake.wait()
