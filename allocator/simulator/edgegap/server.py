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
from allocator.simulator.vendor import SimulatedVendor


class EdgegapSimulator(SimulatedVendor[SimulatorSettings, Fleet]):
    """A simulated Edgegap on this machine."""

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        settings = settings or SimulatorSettings()
        self._clock = clock or Clock()
        self._front = Front(lambda: self._fleet, self._clock, settings.seed)
        self._api = DeploymentApi(self._front, self._clock)
        self._webhooks = Webhooks(lambda: self._fleet, self._clock, self._api.describe)
        self._wake = asyncio.Event()
        self._playing: asyncio.Task[None] | None = None
        super().__init__(settings, self._make_fleet, host, port)

    @property
    def ledger(self) -> Ledger:
        """All that was asked for and deployed up to this moment; ask anew to see what time has brought since."""
        self._fleet.settle()
        return self._fleet.ledger

    def reset(self) -> None:
        """Begin again with the same settings: no deployments, no calls, the catalogue and the dice as at the start."""
        super().reset()
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
        await super().__aexit__(kind, error, trace)
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

    def _make_fleet(self, settings: SimulatorSettings) -> Fleet:
        return Fleet(settings, self._clock, told=self._webhooks.tell, scheduled=self._wake.set)

    async def _play(self) -> None:
        """Let states be entered when they are due: nobody may be asking, but webhooks wait for it."""
        while True:
            self._wake.clear()
            self._fleet.settle()
            due = self._fleet.next_due_seconds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock.monotonic())):
                    await self._wake.wait()
